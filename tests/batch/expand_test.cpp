#include <cmath>
#include <set>

#include "tests/batch/support.h"

namespace saturn {
namespace {

using testing::all_names;
using testing::BatchFolder;
using testing::faults_of;

std::string job(const std::string& name, const std::string& rest) {
  return "[[job]]\nname = \"" + name +
         "\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 10\nbatch_size = 4\noptimizer.lr = 1e-3\n" +
         rest;
}

std::string names_of(const std::string& jobs) {
  BatchFolder folder;
  const auto batch = folder.read(jobs);
  return batch.ok() ? all_names(*batch) : faults_of(batch);
}

TEST_SUITE("batch") {
  TEST_CASE("batch/expand: a grid is every combination with the first key slowest") {
    CHECK(names_of(job("{lr}-{seed}", "[job.grid]\nlr = [1e-3, 0.0001]\nseed = [1, 2, 3]\n")) ==
          "1e-3-1 1e-3-2 1e-3-3 0.0001-1 0.0001-2 0.0001-3");
  }

  TEST_CASE("batch/expand: a zip walks side by side and multiplies with the grid") {
    CHECK(names_of(job("{lr}-{batch_size}-{seed}",
                       "[job.zip]\nlr = [1, 2]\nbatch_size = [8, 16]\n[job.grid]\nseed = [5, 6]\n")) ==
          "1-8-5 2-16-5 1-8-6 2-16-6");
  }

  TEST_CASE("batch/expand: names take values as spelled and fixed values and defaults too") {
    CHECK(names_of(job("{batch_size}-{optimizer.lr}-{precision}-{schedule.kind}-{eps}", "")) ==
          "4-1e-3-fp32-constant-1e-08");
    CHECK(names_of(job("{devices}", "grid.devices = [[1, 2], [4]]\n")) == "1,2 4");
    CHECK(names_of(job("{schedule.kind}", "grid.schedule.kind = [\"linear\", \"cosine\"]\n")) ==
          "linear cosine");
  }

  TEST_CASE("batch/expand: a grid value reaches the table of its key") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"{lr}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 10\nbatch_size = 4\n"
        "[job.grid]\n\"optimizer.lr\" = [0.5]\nwarmup_steps = [7]\nbetas = [[0.8, 0.9]]\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->jobs[0].optimizer.lr == 0.5);
    CHECK(batch->jobs[0].schedule.warmup_steps == 7);
    CHECK(batch->jobs[0].optimizer.beta1 == 0.8);
    CHECK(batch->jobs[0].name == "0.5");
  }

  TEST_CASE("batch/expand: draws lie in their range and are what their names say") {
    BatchFolder folder;
    const std::string random =
        "[job.random]\nsamples = 50\nlr = { min = 1e-5, max = 1e-1, log = true }\n"
        "batch_size = { min = 2, max = 8, step = 3 }\nweight_decay = { min = 0, max = 0.5 }\ndropout = [0.0, "
        "0.1]\n";
    const auto batch = folder.read(job("{sample}-{lr}", random));
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    REQUIRE(batch->jobs.size() == 50);
    int small = 0;
    std::set<int> sizes;
    std::set<double> dropouts;
    for (const batch::Job& one : batch->jobs) {
      const double lr = one.optimizer.lr;
      CHECK(lr >= 1e-5);
      CHECK(lr <= 1e-1);
      small += lr < 1e-3 ? 1 : 0;
      CHECK(std::stod(one.name.substr(one.name.find('-') + 1)) == lr);
      CHECK(one.optimizer.weight_decay <= 0.5);
      sizes.insert(one.batch_size);
      dropouts.insert(one.dropout);
    }
    CHECK(small > 10);  // uniform in the logarithm: half of them lie below the geometric mean
    CHECK(small < 40);
    CHECK(sizes == std::set<int>{2, 5, 8});
    CHECK(dropouts == std::set<double>{0.0, 0.1});
  }

  TEST_CASE("batch/expand: a draw depends on seed and sample and key only") {
    const std::string one = "[job.random]\nsamples = 3\nlr = { min = 1e-5, max = 1e-1, log = true }\n";
    const std::string more =
        "[job.random]\nsamples = 5\nseed = 5\ndropout = { min = 0, max = 0.5 }\nlr = { min = 1e-5, max = "
        "1e-1, log = true }\n";
    const std::string other =
        "[job.random]\nsamples = 3\nseed = 6\nlr = { min = 1e-5, max = 1e-1, log = true }\n";
    const std::string names = names_of(job("{lr}", one));
    CHECK(names_of(job("{lr}", one)) == names);
    CHECK(names_of(job("{lr}", more)).starts_with(names + " "));
    CHECK(names_of(job("{lr}", other)) != names);
    // The seed of the batch is 5: moving the job does not change its draws.
    CHECK(names_of(testing::kPlainJob + job("{lr}", one)) == "plain " + names);
  }

  TEST_CASE("batch/expand: a name that two points share is told at both places") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob + job("{optimizer.kind}", "") + testing::kPlainJob);
    REQUIRE_FALSE(batch.ok());
    REQUIRE(batch.faults().size() == 2);
    CHECK(batch.faults()[0].where == folder.path() + ":9:8");
    CHECK(batch.faults()[1].where == folder.path() + ":23:8");
    CHECK(batch.faults()[0].what.find("line 23") != std::string::npos);
    CHECK(batch.faults()[1].what.find("line 9") != std::string::npos);
  }

  TEST_CASE("batch/expand: ten thousand jobs are read and one more is refused") {
    std::string hundred = "[";
    for (int i = 0; i < 100; ++i) hundred += (i == 0 ? "" : ", ") + std::to_string(i);
    hundred += "]";
    const std::string all =
        job("{seed}-{steps}", "[job.grid]\nseed = " + hundred + "\nsteps = " + hundred + "\n");
    BatchFolder folder;
    const auto zero_steps = folder.read(all);  // steps = 0 is a fault, once
    REQUIRE_FALSE(zero_steps.ok());
    CHECK(zero_steps.faults().size() == 1);
    std::string fixed = all;
    fixed.replace(fixed.rfind("[0, 1,"), 6, "[100, 1,");
    const auto good = folder.read(fixed);
    REQUIRE_MESSAGE(good.ok(), faults_of(good));
    CHECK(good->jobs.size() == 10000);
    const auto more = folder.read(fixed + job("last", ""));
    REQUIRE_FALSE(more.ok());
    CHECK(faults_of(more).find("grows beyond 10000 jobs") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn
