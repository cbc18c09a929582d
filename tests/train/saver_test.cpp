// Saving while training goes on, and loading what can be loaded.

#include "saturn/train/saver.h"

#include <filesystem>
#include <fstream>
#include <limits>

#include "saturn/base/files.h"
#include "saturn/checkpoint/shelf.h"
#include "tests/support/system_calls.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"
#include "tests/train/boxes.h"
#include "tests/train/group_of_threads.h"

namespace saturn::train {
namespace {

using saturn::testing::arm;
using saturn::testing::box;
using saturn::testing::Boxes;
using saturn::testing::cut;
using saturn::testing::disarm;
using saturn::testing::FaultKind;
using saturn::testing::run_ranks;
using saturn::testing::TemporaryDirectory;
using saturn::testing::whole;
namespace fs = std::filesystem;

struct Alone {
  TemporaryDirectory directory;
  std::unique_ptr<Communicator> group = *Communicator::connect({});
  std::string shelf = directory.file("checkpoints");

  std::string at(std::int64_t step) const { return join_path(shelf, checkpoint::name_of_step(step)); }
  SaveRequest request(std::int64_t step, int keep = 0) const {
    return {.directory = at(step), .progress = {.step = step, .seed = 3, .validation = {}}, .keep = keep};
  }
  /// The first element of the weight in the checkpoint of `step`.
  float first_weight(std::int64_t step) const {
    Boxes reader({box("weight", at::zeros({6, 5}), {0, 0})}, *group);
    const auto loaded = load_checkpoint(at(step), reader);
    const std::string faults = loaded.ok() ? "" : to_text(loaded.faults());
    REQUIRE(faults == "");
    return reader.piece(0)[0][0].item<float>();
  }
};

void truncate(const std::string& path) {
  fs::resize_file(path, 10);
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/saver: what is written is the state at the call though training goes on") {
    Alone alone;
    const at::Tensor state = at::full({6, 5}, 1.0F);
    Boxes technique({box("weight", state, {0, 0})}, *alone.group);
    Saver saver(technique, *alone.group);
    for (const std::int64_t step : {1, 2, 3}) {  // the copy's memory is used again, the next save waits
      state.fill_(static_cast<double>(step));
      REQUIRE(saver.begin(alone.request(step)).ok());
      state.fill_(-1.0);
    }
    saver.wait();
    const std::vector<SaveReport> reports = saver.take_reports();
    REQUIRE(reports.size() == 3);
    for (const std::int64_t step : {1, 2, 3}) {
      CAPTURE(step);
      const SaveReport& report = reports[static_cast<std::size_t>(step - 1)];
      CHECK(report.step == step);
      CHECK(report.directory == alone.at(step));
      CHECK(report.faults.empty());
      CHECK(report.save_s >= report.pause_s);
      CHECK(alone.first_weight(step) == static_cast<float>(step));
    }
    CHECK(saver.take_reports().empty());
  }

  TEST_CASE("train/saver: a save prunes what came before it but never the best") {
    Alone alone;
    Boxes technique({box("weight", at::ones({6, 5}), {0, 0})}, *alone.group);
    Saver saver(technique, *alone.group);
    for (const std::int64_t step : {1, 2, 3, 4, 5}) {
      SaveRequest request = alone.request(step, /*keep=*/2);
      request.progress.validation = checkpoint::Validation{.step = step, .loss = step == 2 ? 0.5 : 1.0};
      REQUIRE(saver.begin(request).ok());
    }
    saver.wait();
    CHECK(checkpoint::steps_in(alone.shelf) == std::vector<std::int64_t>{2, 4, 5});
  }

  TEST_CASE(
      "train/saver: a disk that fills while it is written keeps the old checkpoint and the next save works") {
    for (const FaultKind kind : {FaultKind::no_space, FaultKind::io_error}) {
      CAPTURE(static_cast<int>(kind));
      Alone alone;
      const at::Tensor state = at::ones({6, 5});
      Boxes technique({box("weight", state, {0, 0})}, *alone.group);
      Saver saver(technique, *alone.group);
      REQUIRE(saver.save(alone.request(1)).ok());
      arm({.under = alone.at(2) + ".tmp", .kind = kind, .at = 2, .loses = {}});
      const Result<void> begun = saver.begin(alone.request(2));
      saver.wait();
      disarm();
      REQUIRE(begun.ok());
      const std::vector<SaveReport> reports = saver.take_reports();
      REQUIRE(reports.size() == 1);
      REQUIRE(!reports[0].faults.empty());
      CHECK(reports[0].faults[0].kind == (kind == FaultKind::no_space ? Kind::disk_full : Kind::machine));
      CHECK(checkpoint::steps_in(alone.shelf) == std::vector<std::int64_t>{1});
      CHECK(!fs::exists(alone.at(2) + ".tmp"));
      REQUIRE(saver.begin(alone.request(3)).ok());
      saver.wait();
      CHECK(checkpoint::verify(alone.at(3)).ok());
    }
  }

  TEST_CASE("train/saver: a state that holds a number that is not finite is never a checkpoint") {
    for (const float poison :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      Alone alone;
      const at::Tensor state = at::ones({6, 5});
      Boxes technique({box("weight", state, {0, 0})}, *alone.group);
      Saver saver(technique, *alone.group);
      REQUIRE(saver.save(alone.request(1)).ok());
      state[5][4] = poison;
      REQUIRE(saver.begin(alone.request(2)).ok());
      saver.wait();
      const std::vector<SaveReport> reports = saver.take_reports();
      REQUIRE(reports.size() == 1);
      REQUIRE(!reports[0].faults.empty());
      CHECK(reports[0].faults[0].kind == Kind::job_failed);
      CHECK(reports[0].faults[0].what == "the weight of \"w\" holds a number that is not finite");
      CHECK(checkpoint::steps_in(alone.shelf) == std::vector<std::int64_t>{1});
    }
  }

  TEST_CASE("train/saver: state in slow memory is on disk when the call returns") {
    Alone alone;
    const at::Tensor state = at::full({6, 5}, 4.0F);
    StateTensor slow = box("weight", state, {0, 0});
    slow.in_slow_memory = true;
    Boxes technique({slow}, *alone.group);
    Saver saver(technique, *alone.group);
    REQUIRE(saver.begin(alone.request(1)).ok());
    CHECK(alone.first_weight(1) == 4.0F);
    const std::vector<SaveReport> reports = saver.take_reports();
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].pause_s == reports[0].save_s);
  }

  TEST_CASE("train/saver: ranks save together in the background and the failure of one is everyone's") {
    TemporaryDirectory directory;
    const std::string shelf = directory.file("checkpoints");
    std::vector<SaveReport> reports;
    const auto errors = run_ranks(3, [&](Communicator& group) {
      Boxes technique(
          {cut("weight", 0, 2 * group.rank(), 2, 0, 5), cut("exp_avg", 7, 2 * group.rank(), 2, 0, 5)}, group);
      Saver saver(technique, group);
      const auto save = [&](std::int64_t step) {
        return saver.begin({.directory = join_path(shelf, checkpoint::name_of_step(step)),
                            .progress = {.step = step, .validation = {}}});
      };
      if (!save(5).ok()) throw std::runtime_error("the first save failed");
      saver.wait();
      group.barrier();
      // Its file is there already: rank 2 alone cannot write.
      if (group.rank() == 0)
        arm({.under = join_path(shelf, "step-000006.tmp/rank-00002.bin"), .kind = FaultKind::io_error});
      group.barrier();
      if (!save(6).ok()) throw std::runtime_error("the second save failed before it was written");
      saver.wait();
      group.barrier();
      if (group.rank() == 0) disarm();
      const std::vector<SaveReport> mine = saver.take_reports();
      if (group.rank() == 0) reports = mine;
      if (group.rank() != 0 && !mine.empty()) throw std::runtime_error("a rank beside rank 0 reported");
      if (!save(7).ok()) throw std::runtime_error("the third save failed");
      saver.wait();
    });
    CHECK(errors == std::vector<std::string>{"", "", ""});
    REQUIRE(reports.size() == 2);
    CHECK(reports[0].faults.empty());
    REQUIRE(!reports[1].faults.empty());
    CHECK(reports[1].faults[0].what.starts_with("rank 2 could not write its part: "));
    CHECK(checkpoint::steps_in(shelf) == std::vector<std::int64_t>{5, 7});

    const auto alone = *Communicator::connect({});
    Boxes reader({box("weight", at::zeros({6, 5}), {0, 0}), box("exp_avg", at::zeros({6, 5}), {0, 0})},
                 *alone);
    REQUIRE(load_checkpoint(join_path(shelf, "step-000007"), reader).ok());
    CHECK(reader.piece(0).equal(whole()));
    CHECK(reader.piece(1).equal(whole(7)));
  }
}

TEST_SUITE("train") {
  TEST_CASE("train/checkpoint: a rank verifies what it reads and nothing else") {
    Alone alone;
    // Rows of 4000 bytes: a block of 4 MiB ends within row 1048.
    const at::Tensor all = at::arange(3000 * 1000, at::kFloat).view({3000, 1000});
    const auto part = [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                          bool filled) {
      at::Tensor piece = all.narrow(0, row, rows).narrow(1, column, columns).clone();
      if (!filled) piece.zero_();
      return StateTensor{"w", "weight", {3000, 1000}, {row, column}, piece, true};
    };
    Boxes writer({part(0, 3000, 0, 1000, true)}, *alone.group);
    REQUIRE(Saver(writer, *alone.group).save(alone.request(1)).ok());
    const std::string file = alone.at(1) + "/rank-00000.bin";
    const auto load = [&](Boxes& reader) { return load_checkpoint(alone.at(1), reader).ok(); };

    Boxes rows({part(1000, 1100, 0, 1000, false)}, *alone.group);  // parts of two blocks and no whole one
    REQUIRE(load(rows));
    CHECK(rows.piece(0).equal(all.narrow(0, 1000, 1100)));
    Boxes columns({part(5, 2990, 17, 30, false)}, *alone.group);
    REQUIRE(load(columns));
    CHECK(columns.piece(0).equal(all.narrow(0, 5, 2990).narrow(1, 17, 30)));

    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(2 * checkpoint::kBlockBytes + 5);  // in the third and last block: row 2097 and on
    stream.put('\x7f');
    stream.close();
    CHECK(load(rows) == false);  // rows up to 2099
    Boxes above({part(0, 2090, 0, 1000, false)}, *alone.group);
    CHECK(load(above));
    CHECK(load(columns) == false);
    Boxes narrow({part(0, 2000, 3, 2, false)}, *alone.group);
    CHECK(load(narrow));
  }

  TEST_CASE("train/checkpoint: the newest that every rank can read is read by all of them") {
    struct Row {
      std::string label;
      std::vector<std::pair<int, std::string>> damaged;  // step, file
      std::int64_t want;                                 // -1: none
    };
    const std::vector<Row> rows = {
        {"none", {}, 3},
        {"a part that rank 1 alone reads", {{3, "rank-00001.bin"}}, 2},
        {"the manifest", {{3, "manifest.json"}}, 2},
        {"two of them", {{3, "rank-00000.bin"}, {2, "rank-00001.bin"}}, 1},
        {"all", {{3, "rank-00000.bin"}, {2, "rank-00001.bin"}, {1, "manifest.json"}}, -1},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      TemporaryDirectory directory;
      const std::string shelf = directory.file("checkpoints");
      std::vector<std::int64_t> steps(2, 0);
      std::vector<std::size_t> num_passed_over(2, 0);
      const auto errors = run_ranks(2, [&](Communicator& group) {
        const auto rank = static_cast<std::size_t>(group.rank());
        for (const std::int64_t step : {1, 2, 3}) {
          Boxes writer({cut("weight", static_cast<double>(step), 3 * group.rank(), 3, 0, 5)}, group);
          const auto saved = save_checkpoint(join_path(shelf, checkpoint::name_of_step(step)),
                                             {.step = step, .validation = {}}, Json::object(), writer, group);
          if (!saved.ok()) throw std::runtime_error(to_text(saved.faults()));
        }
        if (group.rank() == 0)
          for (const auto& [step, file] : row.damaged)
            truncate(join_path(join_path(shelf, checkpoint::name_of_step(step)), file));
        group.barrier();
        Boxes reader({box("weight", at::zeros({3, 5}), {3 * group.rank(), 0})}, group);
        const auto loaded = load_newest_checkpoint(join_path(shelf, "step-000003"), reader, group);
        steps[rank] = loaded.ok() ? loaded->progress.step : -1;
        if (!loaded.ok()) return;
        num_passed_over[rank] = loaded->passed_over.size();
        const at::Tensor want =
            whole(static_cast<double>(loaded->progress.step)).narrow(0, 3 * group.rank(), 3);
        if (!reader.piece(0).equal(want)) throw std::runtime_error("the state is not that of the step");
      });
      CHECK(errors == std::vector<std::string>{"", ""});
      CHECK(steps == std::vector<std::int64_t>(2, row.want));
      if (row.want > 0) CHECK(num_passed_over[0] + num_passed_over[1] >= row.damaged.size());
      if (row.want == 3) CHECK(num_passed_over[0] + num_passed_over[1] == 0);
    }
  }
}

}  // namespace saturn::train
