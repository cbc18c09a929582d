#include "saturn/batch/read_batch.h"

#include "tests/batch/support.h"

namespace saturn {
namespace {

using testing::all_names;
using testing::BatchFolder;
using testing::faults_of;
using testing::kPlainJob;

// As DESIGN shows it, but for the shorter sequence that the test's text allows.
const std::string kDesignExample = R"([batch]
name = "kjv-sweep"
seed = 17

[data.kjv]
kind = "text"
path = "text.txt"
tokenizer = "bytes"
sequence_length = 16
validation = 0.1

[[job]]
name = "gpt2-{lr}-b{batch_size}"
model = "gpt2-toy"
data = "kjv"
epochs = 1
batch_size = 16
precision = "fp32"
dropout = 0.0
evaluate_every = 100
techniques = ["single", "ddp"]
[job.optimizer]
kind = "adamw"
lr = 1e-3
[job.schedule]
kind = "cosine"
[job.grid]
lr = [1e-3, 3e-4]
batch_size = [8, 16]
)";

TEST_SUITE("batch") {
  TEST_CASE("batch/read: the example of the design expands to its four jobs") {
    BatchFolder folder;
    folder.write("batch.toml", kDesignExample);
    const auto batch = batch::read_batch(folder.path());
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->name == "kjv-sweep");
    CHECK(all_names(*batch) == "gpt2-1e-3-b8 gpt2-1e-3-b16 gpt2-3e-4-b8 gpt2-3e-4-b16");
    const batch::Job& last = batch->jobs[3];
    CHECK(last.optimizer.lr == 3e-4);
    CHECK(last.batch_size == 16);
    CHECK(last.seed == 17);
    CHECK(last.amount == batch::Amount{batch::Amount::Unit::epochs, 1.0});
    CHECK(last.schedule.kind == "cosine");
    CHECK(last.techniques == std::vector<std::string>{"single", "ddp"});
    CHECK(last.model.vocabulary == 256);
    CHECK(batch->data.at("kjv").files == std::vector<std::string>{folder.file("text.txt")});
    CHECK(batch->text == kDesignExample);
  }

  TEST_CASE("batch/read: what is not written takes its default") {
    BatchFolder folder;
    const auto batch = folder.read(kPlainJob);
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    const batch::Job& job = batch->jobs.at(0);
    const batch::Optimizer wanted{.lr = 1e-3};
    CHECK(job.optimizer == wanted);
    CHECK(job.schedule == batch::Schedule{});
    CHECK(job.micro_batches == 1);
    CHECK(job.precision == "fp32");
    CHECK(job.techniques.empty());
    CHECK(job.devices.empty());
    CHECK(job.seed == 5);
    CHECK(batch->run.max_restarts == batch::RunSettings{}.max_restarts);
    CHECK(batch->plan.time_limit_s == batch::PlanSettings{}.time_limit_s);
    CHECK_FALSE(batch->devices.cpu_slots.has_value());
  }

  TEST_CASE("batch/read: every settings table reaches its member in its unit") {
    BatchFolder folder;
    const auto batch = folder.read(kPlainJob + R"(
[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
memory_per_slot = "512MiB"
gpu_share = 2
[profile]
warmup_steps = 1
trial_steps = 3
budget = "1.5m"
trial_timeout = 20
[plan]
time_limit = "2s"
gap = 0.01
iterations = 100
[run]
checkpoint_every = 50
introspect_every = "1h"
max_restarts = 0
keep_checkpoints = 1
log_every = 10
)");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->devices.cpu_slots == 2);
    CHECK(batch->devices.threads_per_slot == 1);
    CHECK(batch->devices.oversubscribe);
    CHECK(batch->devices.memory_per_slot_bytes == std::int64_t{512} << 20);
    CHECK(batch->devices.gpu_share == 2);
    CHECK(batch->devices.cpu_slots_position.line > testing::kFirstJobLine);
    CHECK(batch->profile.warmup_steps == 1);
    CHECK(batch->profile.trial_steps == 3);
    CHECK(batch->profile.budget_s == 90.0);
    CHECK(batch->profile.trial_timeout_s == 20.0);
    CHECK(batch->plan.time_limit_s == 2.0);
    CHECK(batch->plan.gap == 0.01);
    CHECK(batch->plan.iterations == 100);
    CHECK(batch->run.checkpoint_every == 50);
    CHECK(batch->run.introspect_every_s == 3600.0);
    CHECK(batch->run.max_restarts == 0);
    CHECK(batch->run.keep_checkpoints == 1);
    CHECK(batch->run.log_every == 10);
    CHECK(batch->positions.at("run.max_restarts").text().starts_with(folder.path() + ":"));
  }

  TEST_CASE("batch/read: a search has its keys and the goal of its metric") {
    BatchFolder folder;
    const auto batch = folder.read(kPlainJob + R"(
[search]
method = "asha"
first_rung = 2
reduction_factor = 4
)");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->search.method == "asha");
    CHECK(batch->search.metric == "validation_loss");
    CHECK(batch->search.goal == "min");
    CHECK(batch->search.first_rung == 2);
    CHECK(batch->search.reduction_factor == 4);

    const auto median = folder.read(kPlainJob + R"(
[search]
method = "median"
goal = "max"
first_rung = 4
rung_every = 3
min_jobs = 1
)");
    REQUIRE_MESSAGE(median.ok(), faults_of(median));
    CHECK(median->search.goal == "max");
    CHECK(median->search.rung_every == 3);
    CHECK(median->search.min_jobs == 1);
    CHECK(folder.read(kPlainJob)->search.method.empty());
  }

  TEST_CASE("batch/read: a search that lacks a rung says so at its table") {
    BatchFolder folder;
    const std::string faults = faults_of(folder.read(kPlainJob + "[search]\nmethod = \"median\"\n"));
    CHECK(faults.find(":15:") != std::string::npos);
    CHECK(faults.find("method = \"median\" has no first_rung") != std::string::npos);
    const std::string zero =
        faults_of(folder.read(kPlainJob + "[search]\nmethod = \"median\"\nfirst_rung = 0\n"));
    CHECK(zero.find(":17:14: error: [search] first_rung = 0") != std::string::npos);
  }

  TEST_CASE("batch/read: jobs that a program proposes are the one job with its values") {
    BatchFolder folder;
    const std::string search =
        "[search]\nmethod = \"ask\"\ncommand = [\"python3\", \"propose.py\"]\nsamples = 3\n";
    const std::string job =
        "[[job]]\nname = \"p-{sample}-{lr}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 10\nbatch_size "
        "= "
        "4\noptimizer.kind = \"adamw\"\n";
    const auto empty = folder.read(job + search);
    REQUIRE_MESSAGE(empty.ok(), faults_of(empty));
    CHECK(empty->jobs.empty());
    CHECK(empty->search.command == std::vector<std::string>{"python3", "propose.py"});
    CHECK(empty->search.samples == 3);

    const auto proposed = [&](const std::vector<batch::Proposal>& proposals) {
      return batch::read_batch_text(folder.path(), empty->text, {}, proposals);
    };
    const auto two = proposed({{.number = 0, .parameters = {{"lr", 0.001}, {"batch_size", 8}}},
                               {.number = 1, .parameters = {{"optimizer.lr", 1e-4}, {"betas", {0.5, 0.9}}}}});
    REQUIRE_MESSAGE(two.ok(), faults_of(two));
    CHECK(testing::all_names(*two) == "p-0-0.001 p-1-0.0001");
    CHECK(two->jobs[0].optimizer.lr == 0.001);
    CHECK(two->jobs[0].batch_size == 8);
    CHECK(two->jobs[1].batch_size == 4);
    CHECK(two->jobs[1].optimizer.beta1 == 0.5);
    // What cannot be a job says which proposal and why.
    CHECK(faults_of(proposed({{.number = 7, .parameters = {{"lrr", 1}}}})).find("proposal 7") !=
          std::string::npos);
    CHECK(faults_of(proposed({{.number = 0, .parameters = Json::object()}})).find("lr is missing") !=
          std::string::npos);
    CHECK_FALSE(proposed({{.number = 0, .parameters = {{"lr", nullptr}}}}).ok());
    CHECK_FALSE(proposed({{.number = 0, .parameters = {{"lr", 1}, {"batch_size", 2.5}}}}).ok());
    CHECK_FALSE(proposed({{.number = 0, .parameters = {{"lr", 1}, {"name", "x"}}}}).ok());
  }

  TEST_CASE("batch/read: a job to be proposed has no axes of its own and numbers in its name") {
    BatchFolder folder;
    const std::string faults =
        faults_of(folder.read(kPlainJob + "[job.grid]\nlr = [1e-3]\n" + kPlainJob +
                              "[search]\nmethod = \"ask\"\n" + "command = []\nreduction_factor = 3\n"));
    for (const char* const part :
         {"has no samples", "command names no program", "reduction_factor means nothing to method = \"ask\"",
          "[job.grid] stands beside a program", "every proposed job would have this name",
          "more than one [[job]]"})
      CHECK_MESSAGE(faults.find(part) != std::string::npos, faults);
  }

  TEST_CASE("batch/read: nodes may be described instead of detected") {
    BatchFolder folder;
    const auto batch = folder.read(kPlainJob + R"(
[[devices.node]]
name = "big"
class = "a100"
count = 8
memory = "80GiB"
[[devices.node]]
name = "small"
class = "cpu"
count = 2
)");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    REQUIRE(batch->devices.nodes.size() == 2);
    CHECK(batch->devices.nodes[0].device_class == "a100");
    CHECK(batch->devices.nodes[0].count == 8);
    CHECK(batch->devices.nodes[0].memory_bytes == std::int64_t{80} << 30);
    CHECK(batch->devices.nodes[1].memory_bytes == 0);
  }

  TEST_CASE("batch/read: three faults in one file are three messages in the order of the lines") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"a\"\nmodel = \"gpt2-toyy\"\ndata = \"txt\"\nsteps = 0\nbatch_size = "
        "4\noptimizer.lr = 1e-3\n");
    REQUIRE_FALSE(batch.ok());
    REQUIRE(batch.faults().size() == 3);
    CHECK(batch.faults()[0].where == folder.path() + ":10:9");
    CHECK(batch.faults()[0].fix == "did you mean \"gpt2-toy\"?");
    CHECK(batch.faults()[1].where == folder.path() + ":11:8");
    CHECK(batch.faults()[1].fix == "did you mean \"text\"?");
    CHECK(batch.faults()[2].where == folder.path() + ":12:9");
    CHECK(exit_code(batch.faults()) == 2);
  }

  TEST_CASE("batch/read: a missing file and a folder and a huge file are refused at once") {
    BatchFolder folder;
    CHECK_FALSE(batch::read_batch(folder.file("none.toml")).ok());
    CHECK_FALSE(batch::read_batch(directory_of(folder.path())).ok());
    folder.write("huge.toml", "[batch]\nname = \"" + std::string(std::size_t{5} << 20, 'a') + "\"\n");
    const auto huge = batch::read_batch(folder.file("huge.toml"));
    REQUIRE_FALSE(huge.ok());
    CHECK(to_text(huge.faults()).find("larger than 4194304 bytes") != std::string::npos);
  }

  TEST_CASE("batch/read: a faulty line of a grid is told once and not once per point") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"{lr}-{seed}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 1\nbatch_size = "
        "4\nprecison = \"fp32\"\n"
        "[job.grid]\nlr = [1, 2, 3]\nseed = [1, 2, 3]\n");
    REQUIRE_FALSE(batch.ok());
    CHECK(batch.faults().size() == 1);
  }

  TEST_CASE("batch/read: very many faults are cut with a count") {
    BatchFolder folder;
    std::string keys;
    for (int i = 0; i < 500; ++i) keys += "key" + std::to_string(i) + " = 1\n";
    const auto batch = folder.read(kPlainJob + keys);
    REQUIRE_FALSE(batch.ok());
    CHECK(batch.faults().size() == 101);
    CHECK(batch.faults().back().what == "400 more faults are not shown");
  }

  TEST_CASE("batch/read: token shards settle the vocabulary by their width") {
    BatchFolder folder;
    folder.write("narrow.bin", testing::bytes_of<std::uint16_t>({1, 2, 3, 4, 5, 6, 7, 50256, 9, 10}));
    folder.write("wide.bin", testing::bytes_of<std::int32_t>({20240801, 7, 4}, 1024) +
                                 testing::bytes_of<std::uint32_t>({1, 2, 3, 128255}));
    const auto batch = folder.read(
        kPlainJob +
        "[data.narrow]\nkind = \"tokens\"\npath = \"narrow.bin\"\nsequence_length = 3\nvalidation = 0\n"
        "[data.wide]\nkind = \"tokens\"\npath = \"wide.bin\"\nsequence_length = 2\nvalidation = "
        "\"wi*.bin\"\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->data.at("narrow").vocabulary_size == 50257);
    CHECK(batch->data.at("wide").vocabulary_size == 128256);
    CHECK(batch->data.at("wide").validation_files == std::vector<std::string>{folder.file("wide.bin")});
    CHECK(batch->data.at("wide").validation_share == 0.0);
  }

  TEST_CASE("batch/read: a job that varies in a grid points at the value of its own point") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"{lr}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 1\nbatch_size = 4\n"
        "grid.lr = [1e-3, 2e-3]\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(batch->jobs[0].position_of("optimizer.lr").column == 12);
    CHECK(batch->jobs[1].position_of("optimizer.lr").column == 18);
    CHECK(batch->jobs[1].position_of("schedule.kind").line == testing::kFirstJobLine);
  }
}

}  // namespace
}  // namespace saturn
