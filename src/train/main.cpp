// What `saturn worker` calls after opening the training library.

#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "saturn/base/json.h"
#include "saturn/base/log.h"
#include "saturn/base/version.h"
#include "saturn/train/evaluate.h"
#include "saturn/train/gpu.h"
#include "saturn/train/rank.h"
#include "saturn/train/technique_library.h"
#include "saturn/worker/rank_channel.h"

namespace saturn::train {
namespace {

class Channel final : public Controller {
 public:
  explicit Channel(worker::RankChannel& channel) : channel_(channel) {}
  void send(const worker::FromRank& message) override { channel_.send(message); }
  void set_progress(std::int64_t step, std::string doing) override {
    channel_.set_progress(step, std::move(doing));
  }
  std::vector<worker::ToRank> take_requests() override { return channel_.take_requests(); }

 private:
  worker::RankChannel& channel_;
};

int serve(int control_fd) {
  auto channel = worker::RankChannel::open(control_fd);
  if (!channel.ok()) {
    std::fputs(to_text(channel.faults()).c_str(), stderr);
    return 2;
  }
  auto assign = (*channel)->wait_for_assign();
  if (!assign.ok()) {
    std::fputs(to_text(assign.faults()).c_str(), stderr);
    return 2;
  }
  Channel controller(**channel);
  return run_rank(*assign, controller);
}

}  // namespace
}  // namespace saturn::train

/// Speaks to the controller over `control_fd` until its work is done. Does not return: the
/// library's threads are not worth the time, and after a failure not safe, to take down one by one.
extern "C" __attribute__((visibility("default"))) int saturn_train_main(int control_fd) {
  const int code = saturn::train::serve(control_fd);
  std::fflush(nullptr);
  ::_exit(code);
}

/// What this library is (worker/train_library.h), without touching LibTorch or a device.
extern "C" __attribute__((visibility("default"))) const char* saturn_train_about() {
  static const std::string about = saturn::to_line(
      {{"saturn", saturn::version()}, {"libtorch", TORCH_VERSION}, {"cuda", saturn::train::gpu::is_built()}});
  return about.c_str();
}

/// `saturn eval`: JSON in, JSON out (see worker/evaluate.h), the reply to be freed with `free`.
extern "C" __attribute__((visibility("default"))) int saturn_eval_main(const char* request, char** reply) {
  auto asked = saturn::worker::evaluate_request_from_json(request);
  const saturn::Result<saturn::worker::Evaluation> result =
      asked.ok() ? saturn::train::evaluate(*asked) : std::move(asked).faults();
  *reply = ::strdup(saturn::worker::reply_text(result).c_str());
  return result.ok() ? 0 : 2;
}

/// Opens the library that `request` names and asks it (see worker/catalogue.h); the reply to be freed with
/// `free`.
extern "C" __attribute__((visibility("default"))) char* saturn_catalogue(const char* request) {
  return ::strdup(saturn::train::catalogue_reply(request).c_str());
}
