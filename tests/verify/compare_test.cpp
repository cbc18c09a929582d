// Differences between checkpoints, number by number.

#include "saturn/verify/compare.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/temporary_directory.h"
#include "tests/verify/checkpoints.h"

namespace saturn::verify {
namespace {

using testing::Dealt;
using testing::Stored;
using testing::write_checkpoint;
using Values = std::vector<float>;

// Two tensors that move by ones, with moments that say where their gradients were.
struct Run {
  Values weight = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  Values bias = {1, 1, 1};
  Values moment = Values(12, 3.0F);
  Values squares = Values(3, 1.0F);

  void write(const std::string& directory, Dealt dealt = Dealt::whole) const {
    write_checkpoint(directory,
                     {{"w", "weight", 4, weight},
                      {"b", "weight", 0, bias},
                      {"w", "exp_avg", 4, moment},
                      {"b", "exp_avg_sq", 0, squares}},
                     dealt);
  }
};

struct Shelf {
  Shelf() {
    Run before;
    before.weight.assign(12, 0.0F);
    before.bias.assign(3, 0.0F);
    before.write(ends.before);
    Run().write(ends.after);
  }
  Result<Differences> compared(const Run& run, Dealt dealt = Dealt::whole) {
    run.write(other, dealt);
    return compare(ends, other);
  }

  testing::TemporaryDirectory folder;
  Ends ends{.before = folder.file("a/step-000000"), .after = folder.file("a/step-000005")};
  std::string other = folder.file("b/step-000005");
};

TEST_SUITE("verify") {
  TEST_CASE("verify/compare: the same weights do not differ however they are dealt") {
    Shelf shelf;
    Run run;
    for (std::size_t i = 0; i < run.weight.size(); ++i) run.weight[i] = static_cast<float>(i);
    run.write(shelf.ends.after);
    for (const Dealt dealt : {Dealt::whole, Dealt::by_rows, Dealt::by_columns}) {
      CAPTURE(static_cast<int>(dealt));
      const auto differences = shelf.compared(run, dealt);
      REQUIRE(differences.ok());
      CHECK(differences->update == 0.0);
      CHECK(differences->gradient == 0.0);
    }
  }

  TEST_CASE("verify/compare: the update that is furthest off is named with its share") {
    Shelf shelf;
    Run run;
    run.weight[5] = 1.0F + 1e-3F;
    run.bias[0] = 0.5F;
    const auto differences = shelf.compared(run, Dealt::by_columns);
    REQUIRE(differences.ok());
    CHECK(differences->update == doctest::Approx(std::sqrt(0.25 / 3.0)));
    CHECK(differences->update_tensor == "b");
    run.bias[0] = 1.0F;
    CHECK(shelf.compared(run)->update == doctest::Approx(1e-3 / std::sqrt(12.0)).epsilon(1e-3));
  }

  TEST_CASE("verify/compare: a scaled gradient shows in the first moment where AdamW hides it") {
    Shelf shelf;
    Run run;
    run.moment.assign(12, 6.0F);
    const auto differences = shelf.compared(run);
    REQUIRE(differences.ok());
    CHECK(differences->update == 0.0);
    CHECK(differences->gradient == doctest::Approx(1.0));
    CHECK(differences->gradient_tensor == "w");
  }

  TEST_CASE("verify/compare: elements without a gradient may move by noise and others may not") {
    Shelf shelf;
    Run reference;
    reference.squares = {1.0F, 1.0F, 1e-12F};
    reference.write(shelf.ends.after);
    Run run = reference;
    run.bias = {1.0F, 1.0F, -1.0F};
    CHECK(shelf.compared(run)->update == 0.0);
    run.bias = {1.0F, -1.0F, 1.0F};
    CHECK(shelf.compared(run)->update > 0.9);
  }

  TEST_CASE("verify/compare: without a second moment the first says where there was no gradient") {
    Shelf shelf;
    Run reference;
    reference.moment.back() = 1e-5F;  // of others of 3: noise that Lion follows as far as a gradient
    reference.write(shelf.ends.after);
    Run run = reference;
    run.weight.back() = -1.0F;
    CHECK(shelf.compared(run)->update == 0.0);
    run.weight = reference.weight;
    run.weight.front() = -1.0F;
    CHECK(shelf.compared(run)->update > 0.5);
  }

  TEST_CASE("verify/compare: a tensor that is missing or of another shape is named") {
    Shelf shelf;
    write_checkpoint(shelf.other,
                     {{"w", "weight", 4, Values(12, 1.0F)}, {"w", "exp_avg", 4, Values(12, 3.0F)}});
    const auto missing = compare(shelf.ends, shelf.other);
    REQUIRE_FALSE(missing.ok());
    CHECK(to_text(missing.faults()).find("\"b\"") != std::string::npos);
    CHECK_FALSE(compare(shelf.ends, shelf.folder.file("nothing")).ok());
    Run narrow;
    narrow.bias = {1, 1};
    narrow.squares = {1, 1};
    const auto other_shape = shelf.compared(narrow);
    REQUIRE_FALSE(other_shape.ok());
    CHECK(to_text(other_shape.faults()).find("of the same shape") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn::verify
