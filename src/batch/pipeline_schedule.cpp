// Operation lists of a pipeline's stages, and their replay.

#include "saturn/batch/pipeline_schedule.h"

#include <algorithm>
#include <deque>
#include <numeric>

#include "saturn/base/check.h"

namespace saturn::batch {
namespace {

using Kind = PipelineOperation::Kind;
using What = PipelineTransfer::What;

/// Writes the list of one stage; messages to neighbours that do not exist are left out.
class Writer {
 public:
  Writer(int stage, int num_stages) : first_(stage == 0), last_(stage == num_stages - 1) {}

  void forward(int i) { list_.push_back({.kind = Kind::forward, .micro_batch = i}); }
  void backward(int i) { list_.push_back({.kind = Kind::backward, .micro_batch = i}); }
  void receive_input(int i) { exchange(first_, {{What::output, false, i}}); }
  void send_output(int i) { exchange(last_, {{What::output, true, i}}); }
  void receive_gradient(int i) { exchange(last_, {{What::gradient, false, i}}); }
  void send_gradient(int i) { exchange(first_, {{What::gradient, true, i}}); }
  void send_output_receive_gradient(int out, int in) {
    exchange(last_, {{What::output, true, out}, {What::gradient, false, in}});
  }
  void send_gradient_receive_input(int out, int in) {
    exchange(first_, {{What::gradient, true, out}, {What::output, false, in}});
  }
  PipelineOperations take() { return std::move(list_); }

 private:
  void exchange(bool no_neighbour, std::vector<PipelineTransfer> transfers) {
    if (!no_neighbour) list_.push_back({.kind = Kind::exchange, .transfers = std::move(transfers)});
  }

  bool first_;
  bool last_;
  PipelineOperations list_;
};

PipelineOperations one_forward_one_backward(int stage, int num_stages, int num_micro_batches) {
  Writer write(stage, num_stages);
  const int warm_up = std::min(num_stages - 1 - stage, num_micro_batches);
  const int in_turns = num_micro_batches - warm_up;
  for (int i = 0; i < warm_up; ++i) {
    write.receive_input(i);
    write.forward(i);
    write.send_output(i);
  }
  if (in_turns > 0) write.receive_input(warm_up);
  for (int i = 0; i < in_turns; ++i) {
    write.forward(warm_up + i);
    write.send_output_receive_gradient(warm_up + i, i);
    write.backward(i);
    if (i + 1 < in_turns)
      write.send_gradient_receive_input(i, warm_up + i + 1);
    else
      write.send_gradient(i);
  }
  for (int i = in_turns; i < num_micro_batches; ++i) {
    write.receive_gradient(i);
    write.backward(i);
    write.send_gradient(i);
  }
  return write.take();
}

PipelineOperations gpipe(int stage, int num_stages, int num_micro_batches) {
  Writer write(stage, num_stages);
  for (int i = 0; i < num_micro_batches; ++i) {
    write.receive_input(i);
    write.forward(i);
    write.send_output(i);
  }
  for (int i = 0; i < num_micro_batches; ++i) {
    write.receive_gradient(i);
    write.backward(i);
    write.send_gradient(i);
  }
  return write.take();
}

std::string to_text(const PipelineOperation& operation) {
  if (operation.kind != Kind::exchange)
    return (operation.kind == Kind::forward ? "forward " : "backward ") +
           std::to_string(operation.micro_batch);
  std::string text;
  for (const PipelineTransfer& transfer : operation.transfers)
    text += std::string(text.empty() ? "" : " and ") + (transfer.send ? "send" : "receive") +
            (transfer.what == What::output ? " output " : " gradient ") +
            std::to_string(transfer.micro_batch);
  return text;
}

/// What has become of one micro-batch on one stage.
struct Passage {
  bool has_input = false;
  bool forward_done = false;
  bool output_sent = false;
  bool has_gradient = false;
  bool backward_done = false;
  bool gradient_sent = false;
};

/// One direction between two neighbours: what was posted and has no counterpart yet.
struct Channel {
  struct Posted {
    int micro_batch = 0;
    double time_s = 0.0;
    std::size_t stage = 0;
  };
  std::deque<Posted> sends;
  std::deque<Posted> receives;
};

class Replay {
 public:
  Replay(const std::vector<PipelineOperations>& lists, const PipelineCosts& costs, PipelineMessages messages)
      : lists_(lists), costs_(costs), messages_(messages), stages_(lists.size()) {
    int num_micro_batches = 0;
    for (const PipelineOperations& list : lists)
      for (const PipelineOperation& operation : list) {
        num_micro_batches = std::max(num_micro_batches, operation.micro_batch + 1);
        for (const PipelineTransfer& transfer : operation.transfers)
          num_micro_batches = std::max(num_micro_batches, transfer.micro_batch + 1);
      }
    for (std::size_t k = 0; k < stages_.size(); ++k) {
      stages_[k].passages.resize(static_cast<std::size_t>(num_micro_batches));
      for (Passage& passage : stages_[k].passages) {
        passage.has_input = k == 0;
        passage.has_gradient = passage.output_sent = k + 1 == stages_.size();
        passage.gradient_sent = k == 0;
      }
    }
    outputs_.resize(stages_.size());
    gradients_.resize(stages_.size());
  }

  Result<PipelineReplay> run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t k = 0; k < stages_.size(); ++k)
        while (stages_[k].next < lists_[k].size()) {
          SATURN_TRY(const bool done, advance(k));
          if (!done) break;
          moved = true;
        }
    }
    return finish();
  }

 private:
  struct Stage {
    std::size_t next = 0;  ///< operation
    bool posted = false;   ///< the exchange at `next` has been
    int open = 0;          ///< its transfers that are not over
    double time_s = 0.0;
    double busy_s = 0.0;
    int kept = 0;
    int most_kept = 0;
    std::vector<Passage> passages;
  };

  /// Does the next operation of stage `k` if it can be done now.
  Result<bool> advance(std::size_t k) {
    Stage& stage = stages_[k];
    const PipelineOperation& operation = lists_[k][stage.next];
    if (operation.kind == Kind::exchange) {
      if (!stage.posted) SATURN_TRY_VOID(post(k, operation));
      if (stage.open > 0) return false;
      stage.posted = false;
    } else {
      SATURN_TRY_VOID(compute(k, operation));
    }
    ++stage.next;
    return true;
  }

  Result<void> compute(std::size_t k, const PipelineOperation& operation) {
    Stage& stage = stages_[k];
    Passage& passage = stage.passages[static_cast<std::size_t>(operation.micro_batch)];
    if (operation.kind == Kind::forward) {
      if (!passage.has_input) return misfit(k, "comes before its input");
      if (passage.forward_done) return misfit(k, "is done twice");
      passage.forward_done = true;
      stage.most_kept = std::max(stage.most_kept, ++stage.kept);
    } else {
      if (!passage.forward_done) return misfit(k, "comes before its forward pass");
      if (!passage.has_gradient) return misfit(k, "comes before its gradient");
      if (passage.backward_done) return misfit(k, "is done twice");
      passage.backward_done = true;
      --stage.kept;
    }
    const double seconds =
        costs_.compute_s ? costs_.compute_s(static_cast<int>(k), operation.kind, operation.micro_batch) : 0.0;
    stage.time_s += seconds;
    stage.busy_s += seconds;
    return {};
  }

  Result<void> post(std::size_t k, const PipelineOperation& operation) {
    Stage& stage = stages_[k];
    stage.posted = true;
    const double now_s = stage.time_s;
    for (const PipelineTransfer& transfer : operation.transfers) {
      const bool to_next = (transfer.what == What::output) == transfer.send;  // or from there
      if (to_next ? k + 1 == stages_.size() : k == 0) return misfit(k, "has no neighbour to go to");
      if (transfer.send) SATURN_TRY_VOID(may_send(k, transfer));
      // Channels are named by the stage before the boundary.
      const std::size_t boundary = to_next ? k : k - 1;
      Channel& channel = (transfer.what == What::output ? outputs_ : gradients_)[boundary];
      const bool waits = !transfer.send || messages_ == PipelineMessages::rendezvous;
      if (waits) ++stage.open;
      (transfer.send ? channel.sends : channel.receives).push_back({transfer.micro_batch, now_s, k});
      SATURN_TRY_VOID(match(channel, transfer.what));
    }
    return {};
  }

  Result<void> may_send(std::size_t k, const PipelineTransfer& transfer) {
    Passage& passage = stages_[k].passages[static_cast<std::size_t>(transfer.micro_batch)];
    const bool output = transfer.what == What::output;
    if (!(output ? passage.forward_done : passage.backward_done))
      return misfit(k, "comes before what it sends is there");
    bool& sent = output ? passage.output_sent : passage.gradient_sent;
    if (sent) return misfit(k, "is done twice");
    sent = true;
    return {};
  }

  /// Messages of one channel meet in the order in which they were posted.
  Result<void> match(Channel& channel, What what) {
    while (!channel.sends.empty() && !channel.receives.empty()) {
      const Channel::Posted send = channel.sends.front();
      const Channel::Posted receive = channel.receives.front();
      channel.sends.pop_front();
      channel.receives.pop_front();
      if (send.micro_batch != receive.micro_batch)
        return misfit(receive.stage, "meets micro-batch " + std::to_string(send.micro_batch));
      Stage& receiver = stages_[receive.stage];
      Passage& passage = receiver.passages[static_cast<std::size_t>(receive.micro_batch)];
      (what == What::output ? passage.has_input : passage.has_gradient) = true;
      if (messages_ == PipelineMessages::eager) {
        receiver.time_s = std::max(receiver.time_s, send.time_s + costs_.message_s);
        --receiver.open;
        continue;
      }
      const double end_s = std::max(send.time_s, receive.time_s) + costs_.message_s;
      for (const std::size_t k : {send.stage, receive.stage}) {
        stages_[k].time_s = std::max(stages_[k].time_s, end_s);
        --stages_[k].open;
      }
    }
    return {};
  }

  Result<PipelineReplay> finish() {
    for (std::size_t k = 0; k < stages_.size(); ++k)
      if (stages_[k].next < lists_[k].size()) return misfit(k, "waits without end");
    PipelineReplay result;
    for (std::size_t k = 0; k < stages_.size(); ++k) {
      for (std::size_t i = 0; i < stages_[k].passages.size(); ++i) {
        const Passage& passage = stages_[k].passages[i];
        if (!passage.backward_done || !passage.output_sent || !passage.gradient_sent)
          return fault("stage " + std::to_string(k) + " leaves micro-batch " + std::to_string(i) + " undone");
      }
      result.span_s = std::max(result.span_s, stages_[k].time_s);
      result.busy_s.push_back(stages_[k].busy_s);
      result.most_kept.push_back(stages_[k].most_kept);
    }
    for (const std::vector<Channel>* channels : {&outputs_, &gradients_})
      for (const Channel& channel : *channels)
        if (!channel.sends.empty()) return fault("a message is sent that no stage receives");
    return result;
  }

  Diagnostic misfit(std::size_t k, const std::string& why) const {
    const std::size_t next = std::min(stages_[k].next, lists_[k].size() - 1);
    return fault("stage " + std::to_string(k) + ": operation " + std::to_string(next) + " (" +
                 to_text(lists_[k][next]) + ") " + why);
  }
  static Diagnostic fault(std::string what) {
    return {.what = std::move(what), .expected = "operation lists that fit each other"};
  }

  const std::vector<PipelineOperations>& lists_;
  const PipelineCosts& costs_;
  PipelineMessages messages_;
  std::vector<Stage> stages_;
  std::vector<Channel> outputs_, gradients_;
};

}  // namespace

const char* name_of(PipelineOrder order) {
  return order == PipelineOrder::gpipe ? "gpipe" : "1f1b";
}

std::optional<PipelineOrder> pipeline_order_named(const std::string& name) {
  for (const PipelineOrder order : {PipelineOrder::one_forward_one_backward, PipelineOrder::gpipe})
    if (name == name_of(order)) return order;
  return std::nullopt;
}

PipelineOperations pipeline_operations(PipelineOrder order, int stage, int num_stages,
                                       int num_micro_batches) {
  SATURN_CHECK(stage >= 0 && stage < num_stages && num_micro_batches >= 0, "a stage lies in its pipeline");
  return order == PipelineOrder::gpipe ? gpipe(stage, num_stages, num_micro_batches)
                                       : one_forward_one_backward(stage, num_stages, num_micro_batches);
}

std::vector<PipelineOperations> pipeline_operations(PipelineOrder order, int num_stages,
                                                    int num_micro_batches) {
  std::vector<PipelineOperations> lists;
  for (int stage = 0; stage < num_stages; ++stage)
    lists.push_back(pipeline_operations(order, stage, num_stages, num_micro_batches));
  return lists;
}

double PipelineReplay::bubble() const {
  const double busy = std::accumulate(busy_s.begin(), busy_s.end(), 0.0);
  return span_s > 0.0 ? 1.0 - busy / (span_s * static_cast<double>(busy_s.size())) : 0.0;
}

Result<PipelineReplay> replay(const std::vector<PipelineOperations>& lists, const PipelineCosts& costs,
                              PipelineMessages messages) {
  return Replay(lists, costs, messages).run();
}

double ideal_bubble(int num_stages, int num_micro_batches) {
  return static_cast<double>(num_stages - 1) / (num_micro_batches + num_stages - 1);
}

}  // namespace saturn::batch
