// The bubble of 1F1B against (K - 1) / (M + K - 1): as two processes carry the schedule out, from the times
// that they record, and for more stages by replaying the operation lists with the passes that were recorded.
// What is executed above what is replayed for two stages is messages and passes that take longer than usual.
//
// The model is one whose stages weigh the same: as many equal blocks on each, and tables that are small.
//
// usage: bench_pipeline [BLOCKS] [WIDTH] [STEPS]      of each stage; steps that are timed

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/statistics.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/model_spec.h"
#include "saturn/batch/pipeline_balance.h"
#include "saturn/batch/pipeline_schedule.h"
#include "saturn/train/pipeline_stage.h"
#include "saturn/train/whole_placement.h"
#include "tests/support/temporary_directory.h"

namespace {

using namespace saturn;
using batch::PipelineOperation;

constexpr int kNumStages = 2;
constexpr int kWarmupSteps = 2;
constexpr int kRows = 2;  // of a micro-batch
constexpr int kTokens = 64;
constexpr double kTolerance = 0.10;

struct Sizes {
  int blocks = 8;
  int width = 384;
  int steps = 9;
};

template <class T>
T must(Result<T> result) {
  if (result.ok()) return *std::move(result);
  std::fprintf(stderr, "%s\n", to_text(result.faults()).c_str());
  ::_exit(2);
}
void must(bool good, const char* what) {
  if (good) return;
  std::perror(what);
  ::_exit(2);
}

/// What a rank tells of one pass.
struct Pass {
  int step = 0;
  int is_forward = 0;
  int micro_batch = 0;
  double start_s = 0.0;
  double end_s = 0.0;
};

/// One stage's life; its passes go to `out`.
void run_stage(const std::string& sizes_path, const Sizes& sizes, int num_micro_batches,
               train::Meeting meeting, int out) {
  cpu_set_t core;  // its own, as slots have
  CPU_ZERO(&core);
  CPU_SET(static_cast<unsigned>(meeting.rank), &core);
  ::sched_setaffinity(0, sizeof core, &core);
  at::set_num_threads(1);
  const auto world = must(train::Communicator::connect(meeting));
  const auto alone = must(train::Communicator::connect({}));
  const batch::ModelSpec spec = must(batch::find_model(sizes_path, ".", {}));
  const auto model = must(train::make_model(spec, {.sequence_length = kTokens}));
  batch::Job job;
  job.model = spec;
  job.seed = 3;
  const auto num_layers = static_cast<int>(model->layers.size());
  const batch::LayerRange layers = batch::layers_of_stage({sizes.blocks + 1}, meeting.rank, num_layers);
  for (const train::ParameterPtr& parameter : model->parameters()) parameter->num_users = 1;
  train::WholePlacement placement({.model = *model,
                                   .job = job,
                                   .data = *alone,
                                   .first_layer = static_cast<std::size_t>(layers.first),
                                   .end_layer = static_cast<std::size_t>(layers.end)});
  train::RandomWeights weights(job.seed);
  must(placement.place(weights).ok(), "place");
  train::PipelineStage stage(placement, *model, *world, layers);

  data::MicroBatches batches;
  for (int m = 0; m < num_micro_batches; ++m) {
    const at::Tensor tokens =
        at::arange(kRows * kTokens, at::kLong).view({kRows, kTokens}).remainder(spec.vocabulary);
    batches.parts.push_back(
        {.rows = {.first = m * kRows, .count = kRows}, .inputs = tokens, .targets = tokens});
  }
  batches.num_rows = num_micro_batches * kRows;
  batches.num_targets = batches.num_rows * kTokens;
  for (int step = -kWarmupSteps; step < sizes.steps; ++step) {
    batches.step = step + kWarmupSteps;
    world->barrier();
    placement.begin_step();
    stage.accumulate(
        batches,
        [&](const data::MicroBatch& one) {
          return train::StepContext{.seed = job.seed,
                                    .step = batches.step,
                                    .first_row = one.rows.first,
                                    .training = true,
                                    .loss_weight = 1.0 / static_cast<double>(batches.num_targets)};
        },
        batch::PipelineOrder::one_forward_one_backward);
    placement.finish_gradients();
    if (step < 0) continue;
    for (const train::TimedOperation& one : stage.timeline()) {
      const Pass pass{step, one.kind == PipelineOperation::Kind::forward ? 1 : 0, one.micro_batch,
                      one.start_s, one.end_s};
      must(::write(out, &pass, sizeof pass) == static_cast<ssize_t>(sizeof pass), "write");
    }
  }
  world->shutdown();
}

/// The passes of both stages.
std::vector<std::vector<Pass>> executed(const std::string& sizes_path, const Sizes& sizes,
                                        int num_micro_batches) {
  const FileDescriptor listening(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  must(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
           ::listen(listening.get(), 8) == 0 &&
           ::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0,
       "listen");
  std::vector<int> ends;
  std::vector<pid_t> children;
  for (int rank = 0; rank < kNumStages; ++rank) {
    int pair[2];
    must(::pipe(pair) == 0, "pipe");
    const pid_t child = ::fork();  // before the parent's first tensor
    must(child >= 0, "fork");
    if (child == 0) {
      ::close(pair[0]);
      run_stage(sizes_path, sizes, num_micro_batches,
                {.port = ntohs(address.sin_port),
                 .listen_fd = rank == 0 ? listening.get() : -1,
                 .key = "bench",
                 .rank = rank,
                 .num_ranks = kNumStages},
                pair[1]);
      ::_exit(0);
    }
    ::close(pair[1]);
    ends.push_back(pair[0]);
    children.push_back(child);
  }
  std::vector<std::vector<Pass>> passes(kNumStages);
  for (int rank = 0; rank < kNumStages; ++rank) {
    Pass pass;
    while (::read(ends[static_cast<std::size_t>(rank)], &pass, sizeof pass) ==
           static_cast<ssize_t>(sizeof pass))
      passes[static_cast<std::size_t>(rank)].push_back(pass);
    int status = 0;
    must(::waitpid(children[static_cast<std::size_t>(rank)], &status, 0) > 0 && status == 0, "a stage");
  }
  return passes;
}

/// Of each step, the share of the stages' time in which they compute nothing.
std::vector<double> bubbles_of(const std::vector<std::vector<Pass>>& passes, int num_steps) {
  std::vector<double> bubbles;
  for (int step = 0; step < num_steps; ++step) {
    double begin_s = INFINITY, end_s = 0.0, busy_s = 0.0;
    for (const auto& of_stage : passes) {
      for (const Pass& pass : of_stage) {
        if (pass.step != step) continue;
        begin_s = std::min(begin_s, pass.start_s);
        end_s = std::max(end_s, pass.end_s);
        busy_s += pass.end_s - pass.start_s;
      }
    }
    bubbles.push_back(1.0 - busy_s / (static_cast<double>(passes.size()) * (end_s - begin_s)));
  }
  return bubbles;
}

/// The lists of `num_stages` stages, each pass as long as was typical of its kind: on the last stage of the
/// stage that was last when it was recorded, on the others of the first.
double replayed(const std::vector<std::vector<Pass>>& passes, int num_stages, int num_micro_batches) {
  const auto typical_s = [&](std::size_t stage, bool is_forward) {
    std::vector<double> times_s;
    for (const Pass& pass : passes[stage])
      if ((pass.is_forward != 0) == is_forward) times_s.push_back(pass.end_s - pass.start_s);
    return median(std::move(times_s));
  };
  const double times_s[2][2] = {{typical_s(0, false), typical_s(0, true)},
                                {typical_s(1, false), typical_s(1, true)}};
  const auto lists = batch::pipeline_operations(batch::PipelineOrder::one_forward_one_backward, num_stages,
                                                num_micro_batches);
  const auto compute_s = [&](int stage, PipelineOperation::Kind kind, int) {
    return times_s[stage + 1 == num_stages ? 1 : 0][kind == PipelineOperation::Kind::forward ? 1 : 0];
  };
  return must(batch::replay(lists, {.compute_s = compute_s}, batch::PipelineMessages::eager)).bubble();
}

bool report(const char* how, int num_stages, int num_micro_batches, double bubble) {
  const double ideal = batch::ideal_bubble(num_stages, num_micro_batches);
  const bool reached = std::abs(bubble - ideal) <= kTolerance * ideal;
  std::printf("%-9s %d stages, %2d micro-batches: bubble %.4f, (K-1)/(M+K-1) %.4f, off by %+.1f %%%s\n", how,
              num_stages, num_micro_batches, bubble, ideal, 100.0 * (bubble / ideal - 1.0),
              reached ? "" : "  NOT REACHED");
  return reached;
}

}  // namespace

int main(int argc, char** argv) {
  Sizes sizes;
  if (argc > 1) sizes.blocks = std::atoi(argv[1]);
  if (argc > 2) sizes.width = std::atoi(argv[2]);
  if (argc > 3) sizes.steps = std::atoi(argv[3]);
  if (sizes.blocks < 1 || sizes.width < 4 || sizes.width % 4 != 0 || sizes.steps < 1) {
    std::fprintf(stderr,
                 "bench_pipeline: error: blocks and steps are from 1 on, the width a multiple of 4\n");
    return 2;
  }
  const testing::TemporaryDirectory directory;
  const std::string path = directory.file("balanced.toml");
  must(write_whole(path, "family = \"gpt2\"\nlayers = " + std::to_string(kNumStages * sizes.blocks) +
                             "\nheads = 4\nwidth = " + std::to_string(sizes.width) +
                             "\nlongest_sequence = " + std::to_string(kTokens) + "\nvocabulary = 64\n")
           .ok(),
       "write");
  bool all = true;
  for (const int num_micro_batches : {4, 8}) {
    const auto passes = executed(path, sizes, num_micro_batches);
    all &= report("executed", kNumStages, num_micro_batches, median(bubbles_of(passes, sizes.steps)));
    for (const int num_stages : {kNumStages, 4, 8}) {
      const int num = num_stages == kNumStages ? num_micro_batches : 4 * num_stages;
      all &= report("replayed", num_stages, num, replayed(passes, num_stages, num));
    }
  }
  return all ? 0 : 1;
}
