#include "saturn/batch/samples.h"

#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::Amount;
using batch::DataSource;
using batch::Job;
using testing::BatchFolder;
using testing::faults_of;

DataSource source(std::vector<std::string> files, int sequence_length, double share) {
  DataSource data;
  data.name = "d";
  data.files = std::move(files);
  data.sequence_length = sequence_length;
  data.validation_share = share;
  return data;
}

TEST_SUITE("batch") {
  TEST_CASE("batch/samples: validation is the end of all tokens and samples never span segments") {
    BatchFolder folder;
    folder.write("a.txt", std::string(100, 'a'));
    folder.write("b.txt", std::string(60, 'b'));
    const auto split = split_of(source({folder.file("a.txt"), folder.file("b.txt")}, 10, 0.5));
    REQUIRE_MESSAGE(split.ok(), faults_of(split));
    // 160 tokens: 80 to train on, all in a.txt; 20 of a.txt and 60 of b.txt held out.
    REQUIRE(split->training.size() == 1);
    CHECK(split->training[0].num_tokens == 80);
    CHECK(split->num_training_samples == 7);
    REQUIRE(split->validation.size() == 2);
    CHECK(split->validation[0].first_token == 80);
    CHECK(split->validation[0].num_tokens == 20);
    CHECK(split->validation[1].first_token == 0);
    CHECK(split->num_validation_samples == 1 + 5);
  }

  TEST_CASE("batch/samples: a sample reads one token more than its length") {
    BatchFolder folder;
    folder.write("a.txt", std::string(21, 'a'));
    CHECK(split_of(source({folder.file("a.txt")}, 10, 0.0))->num_training_samples == 2);
    folder.write("a.txt", std::string(20, 'a'));
    CHECK(split_of(source({folder.file("a.txt")}, 10, 0.0))->num_training_samples == 1);
    folder.write("a.txt", std::string(10, 'a'));
    CHECK_FALSE(split_of(source({folder.file("a.txt")}, 10, 0.0)).ok());
  }

  TEST_CASE("batch/samples: other data to validate on leaves the training data whole") {
    BatchFolder folder;
    folder.write("a.txt", std::string(101, 'a'));
    folder.write("v.txt", std::string(31, 'v'));
    DataSource data = source({folder.file("a.txt")}, 10, 0.0);
    data.validation_files = {folder.file("v.txt")};
    const auto split = split_of(data);
    REQUIRE_MESSAGE(split.ok(), faults_of(split));
    CHECK(split->num_training_samples == 10);
    CHECK(split->num_validation_samples == 3);
    folder.write("v.txt", "short");
    CHECK_FALSE(split_of(data).ok());
  }

  TEST_CASE("batch/samples: steps of epochs and tokens keep the short last batch of each pass") {
    DataSource data = source({}, 10, 0.0);
    Job job;
    job.batch_size = 4;
    const auto steps = [&](Amount::Unit unit, double value) {
      job.amount = {unit, value};
      return steps_of(job, data, /*num_training_samples=*/10);
    };
    CHECK(steps_per_epoch(job, 10) == 3);
    CHECK(steps(Amount::Unit::epochs, 1) == 3);
    CHECK(steps(Amount::Unit::epochs, 2) == 6);
    CHECK(steps(Amount::Unit::epochs, 0.5) == 2);
    CHECK(steps(Amount::Unit::epochs, 1.5) == 5);
    CHECK(steps(Amount::Unit::epochs, 1e-9) == 1);
    CHECK(steps(Amount::Unit::steps, 7) == 7);
    CHECK(steps(Amount::Unit::tokens, 1) == 1);
    CHECK(steps(Amount::Unit::tokens, 40) == 1);
    CHECK(steps(Amount::Unit::tokens, 41) == 2);
    CHECK(steps(Amount::Unit::tokens, 100) == 3);
    CHECK(steps(Amount::Unit::tokens, 110) == 4);
    CHECK(steps(Amount::Unit::epochs, 1e300) == 1000000000000000);
  }
}

}  // namespace
}  // namespace saturn
