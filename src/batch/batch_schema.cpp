// The keys of DESIGN's batch file. What is written here is what is read, defaulted, explained and exported.

#include "batch/batch_schema.h"

namespace saturn::batch {
namespace {

constexpr double kMostInteger = 9007199254740992.0;  // 2^53: exact as a TOML integer and as a JSON number

// Accessors are generic lambdas over one member path.
#define SATURN_AT(path)  \
  [](auto& t) -> auto& { \
    return t.path;       \
  }

TableSchema table(std::string name, std::string help, TableSchema::Form form = TableSchema::Form::one) {
  TableSchema schema;
  schema.name = std::move(name);
  schema.form = form;
  schema.help = std::move(help);
  return schema;
}

TableSchema batch_table() {
  TableSchema schema = table("batch", "The batch itself.");
  schema.required = true;
  Keys<Batch>(schema)
      .required("name", like(text("a name of letters, digits and . _ - + = , @"), "\"sweep\""),
                SATURN_AT(name), "names the run directory, runs/<name>")
      .key("seed", integer(0, kMostInteger), SATURN_AT(seed), "seed of every job that names none");
  return schema;
}

TableSchema devices_table() {
  using devices::DevicesRequest;
  using devices::NodeRequest;
  TableSchema schema =
      table("devices", "Where the jobs run. Absent: the GPUs of this machine, else its cores.");
  Keys<DevicesRequest>(schema)
      .key("cpu_slots", integer(1, 4096), SATURN_AT(cpu_slots),
           "slots made of this machine's cores, even beside GPUs")
      .key("threads_per_slot", integer(1, 4096), SATURN_AT(threads_per_slot),
           "threads (and cores) of a slot; absent: the cores divided by the slots")
      .key("oversubscribe", boolean(), SATURN_AT(oversubscribe),
           "allow more slot threads than there are cores")
      .key("memory_per_slot", size(), SATURN_AT(memory_per_slot_bytes),
           "limit of what a slot's job allocates")
      .key("gpu_share", integer(1, 16), SATURN_AT(gpu_share), "devices made of each GPU")
      .key("use_busy_gpus", boolean(), SATURN_AT(use_busy_gpus),
           "take GPUs on which other programs compute too");
  TableSchema node = table("node", "A node described instead of detected, to plan for another machine.",
                           TableSchema::Form::many);
  Keys<NodeRequest>(node)
      .required("name", text("a name of letters, digits and . _ - + = , @"), SATURN_AT(name),
                "name of the node")
      .required("class", like(text("a device class, as \"cpu\" or \"a100\""), "\"cpu\""),
                SATURN_AT(device_class), "what its devices are")
      .required("count", integer(1, 4096), SATURN_AT(count), "how many devices")
      .key("memory", size(), SATURN_AT(memory_bytes), "memory of one device; 0: no limit");
  schema.tables.push_back(std::move(node));
  return schema;
}

TableSchema data_table() {
  TableSchema schema =
      table("data", "A data source; jobs name it by the NAME in [data.NAME].", TableSchema::Form::named);
  schema.required = true;
  Keys<DataDraft>(schema)
      .required("kind", one_of({"text", "tokens", "images"}), SATURN_AT(kind),
                "text: a text file; tokens: .bin shards as nanoGPT or llm.c write them; images: JPEG and PNG")
      .required(
          "path", like(text("a path, relative to this file"), "\"corpus.txt\""), SATURN_AT(path),
          "a file, or a pattern such as \"train_*.bin\"; images: a folder with one folder for each class, or "
          "WebDataset's tar shards")
      .key("tokenizer", like(text("bytes or a path, relative to this file"), "\"bytes\""),
           SATURN_AT(tokenizer),
           "text only: \"bytes\", or a tokenizer.json, a SentencePiece model, or a directory that holds one")
      .key("documents", one_of({"file", "line", "blank-line", "jsonl"}), SATURN_AT(documents),
           "text with a tokenizer: what the end-of-text token follows; jsonl: the \"text\" of each line's "
           "object")
      .custom(
          "sequence_length", like(integer(1, 1 << 20), "128"),
          [](DataDraft& draft, const TomlValue& value) {
            draft.sequence_length = static_cast<int>(integer_of(value));
          },
          "", "text and tokens: tokens of one sample")
      .custom(
          "validation",
          {.type = Shape::Type::text_or_number,
           .minimum = 0,
           .maximum = 1,
           .below_maximum = true,
           .meaning = "a path",
           .example = "0.1"},
          [](DataDraft& draft, const TomlValue& value) {
            draft.validation_path = value.is_number() ? "" : value.spelled;
            draft.validation_share = value.is_number() ? value.number : 0.0;
          },
          "0.1",
          "share of the tokens held out at the end, or of each class (0: none), or the path of other data")
      .custom(
          "vocabulary_size", integer(2, 1 << 24),
          [](DataDraft& draft, const TomlValue& value) {
            draft.vocabulary_size = static_cast<int>(integer_of(value));
          },
          "", "tokens only: every token is below it; absent: 50257 for 16-bit tokens, 128256 for 32-bit ones")
      .custom(
          "image_size", like(integer(1, 1 << 14), "224"),
          [](DataDraft& draft, const TomlValue& value) {
            draft.image_size = static_cast<int>(integer_of(value));
          },
          "", "images: side of the square that the model reads, in pixels")
      .key("channels", integer(1, 3), SATURN_AT(channels), "images: 3 of colour, or 1 of grey")
      .key("resize", integer(0, 1 << 15), SATURN_AT(resize),
           "images: pixels that the shorter side gets before validation cuts the centre; 0: image_size")
      .custom(
          "crop_area", like(number_list(2, 0, 1), "[0.08, 1.0]"),
          [](DataDraft& draft, const TomlValue& value) {
            draft.crop_area = {value.elements[0].number, value.elements[1].number};
          },
          "[0.08, 1.0]", "images: least and largest share of the area that a training crop takes")
      .key("interpolation", one_of({"bilinear", "bicubic"}), SATURN_AT(interpolation),
           "images: how they are resized, as Pillow does it; ViTs are usually trained with bicubic")
      .key("flip", boolean(), SATURN_AT(flip), "images: mirror half of the training crops")
      .key("mean", like(number_list(-1, -1e6, 1e6), "[0.485, 0.456, 0.406]"), SATURN_AT(mean),
           "images: taken from each channel's values of 0 to 1; absent: ImageNet's")
      .key("std", like(number_list(-1, 0, 1e6), "[0.229, 0.224, 0.225]"), SATURN_AT(std),
           "images: what they are divided by then; absent: ImageNet's")
      .key("max_corrupt", integer(0), SATURN_AT(max_corrupt),
           "images: that cannot be read and are passed over, before the job fails")
      .key("labels", like(text("a path, relative to this file"), "\"classes.txt\""), SATURN_AT(labels),
           "images: a file with a class on each line, in the order of their labels; absent: folders by name");
  return schema;
}

TableSchema techniques_table() {
  TableSchema schema =
      table("techniques", "A technique from outside; jobs name it by the NAME in [techniques.NAME].",
            TableSchema::Form::named);
  Keys<LibraryDraft>(schema).required(
      "library", like(text("a path, relative to this file"), "\"librow_by_row.so\""), SATURN_AT(library),
      "a shared object that ends in SATURN_TECHNIQUE_LIBRARY; only workers load it");
  return schema;
}

TableSchema optimizer_table() {
  TableSchema schema = table("optimizer", "How the weights follow their gradients.");
  Keys<Optimizer>(schema)
      .key("kind", one_of({"adamw", "sgd", "lion"}), SATURN_AT(kind),
           "adamw and lion decay weights apart from the gradient, sgd adds the decay to it")
      .required("lr", like(above(0), "1e-3"), SATURN_AT(lr), "peak learning rate")
      .key("weight_decay", at_least(0), SATURN_AT(weight_decay), "per step, times the learning rate")
      .custom(
          "betas", like(number_list(2, 0, 1), "[0.9, 0.999]"),
          [](Optimizer& optimizer, const TomlValue& value) {
            optimizer.beta1 = value.elements[0].number;
            optimizer.beta2 = value.elements[1].number;
          },
          "[0.9, 0.999]", "decay of the moments of adamw and lion (of lion [0.9, 0.99])")
      .key("eps", above(0), SATURN_AT(eps), "adamw: added to the root of the second moment")
      .key("momentum", number(0, 1), SATURN_AT(momentum), "sgd only; the others' is their first beta")
      .key("nesterov", boolean(), SATURN_AT(nesterov), "sgd only: look ahead along the momentum")
      .key("clip_norm", at_least(0), SATURN_AT(clip_norm),
           "largest global norm of the gradient; 0: no clipping");
  return schema;
}

TableSchema schedule_table() {
  TableSchema schema = table("schedule", "How the learning rate moves.");
  Keys<Schedule>(schema)
      .key("kind", one_of({"constant", "linear", "cosine", "step"}), SATURN_AT(kind), "after the warm-up")
      .key("warmup_steps", integer(0), SATURN_AT(warmup_steps), "steps from 0 to lr in a line")
      .key("minimum_lr", at_least(0), SATURN_AT(minimum_lr), "where linear and cosine end; the least of step")
      .key("decay_every", integer(0), SATURN_AT(decay_every), "step: steps between two decays")
      .key("decay_factor", {.type = Shape::Type::number, .minimum = 0, .maximum = 1, .above_minimum = true},
           SATURN_AT(decay_factor), "step: what each decay multiplies by");
  return schema;
}

TableSchema lora_table() {
  TableSchema schema = table("lora", "Trains low-rank adapters beside some weights, and nothing else.");
  Keys<Lora>(schema)
      .key("rank", integer(1, 1 << 16), SATURN_AT(rank), "inner width of an adapter")
      .key("alpha", above(0), SATURN_AT(alpha), "adapters count alpha / rank times")
      .key("targets", like(text_list("the last part of a module's name"), "[\"q_proj\", \"v_proj\"]"),
           SATURN_AT(targets), "maps that get an adapter; absent: those that PEFT chooses for the family")
      .key("start", like(text("a path, relative to this file"), "\"adapter\""), SATURN_AT(start),
           "a directory of PEFT's files to go on from, whose rank, alpha and targets are taken");
  return schema;
}

TableSchema job_table() {
  TableSchema schema = table("job", "A training run, or a family of them.", TableSchema::Form::many);
  schema.required = true;
  Keys<JobDraft>(schema)
      .required("name", like(text("a name, with {key} where a grid varies a key"), "\"gpt2-{lr}\""),
                SATURN_AT(job.name), "unique; {lr} stands for the value as written here")
      .required("model", like(text("a preset of `saturn models`, or a path"), "\"gpt2-toy\""),
                SATURN_AT(model), "a preset, a TOML of sizes, or a Hugging Face directory")
      .required("data", like(text("the NAME of a [data.NAME]"), "\"corpus\""), SATURN_AT(job.data),
                "the data source")
      .key("epochs", like(above(0), "1"), SATURN_AT(epochs),
           "passes over the training data; this, or steps, or tokens")
      .key("steps", like(integer(1), "1000"), SATURN_AT(steps), "optimiser steps")
      .key("tokens", like(integer(1, kMostInteger), "1e6"), SATURN_AT(tokens),
           "tokens trained on, rounded up to whole steps")
      .required("batch_size", like(integer(1, 1 << 24), "16"), SATURN_AT(job.batch_size),
                "samples of a step over all devices, the same whatever the technique")
      .key("micro_batches", integer(1, 1 << 24), SATURN_AT(job.micro_batches),
           "parts of a batch whose gradients are accumulated")
      .key("precision", one_of({"fp32", "bf16"}), SATURN_AT(job.precision),
           "of weights in use and activations")
      .key("gradient_precision", one_of({"fp32", "bf16"}), SATURN_AT(job.gradient_precision),
           "of gradients between replicas; bf16 lets ddp send half as much, rounded")
      .key("dropout", {.type = Shape::Type::number, .minimum = 0, .maximum = 1, .below_maximum = true},
           SATURN_AT(job.dropout), "share of activations dropped while training")
      .key("label_smoothing",
           {.type = Shape::Type::number, .minimum = 0, .maximum = 1, .below_maximum = true},
           SATURN_AT(job.label_smoothing), "classification: share of a target spread over all classes")
      .key("new_head", boolean(), SATURN_AT(job.new_head),
           "stored classifiers: a head at random, for the data's classes, in place of the stored one")
      .key("freeze",
           like(text_list("a parameter's name, its beginning or a pattern with *"),
                "[\"transformer.wte\", \"transformer.h.0\"]"),
           SATURN_AT(job.freeze), "parameters that stay as they are, such as \"transformer.h.*.ln_1\"")
      .key("evaluate_every", integer(0), SATURN_AT(job.evaluate_every),
           "steps between validations; 0: only at the end")
      .key("techniques", like(text_list("a technique of `saturn techniques`"), "[\"single\", \"ddp\"]"),
           SATURN_AT(job.techniques), "which may be chosen; absent: all that apply")
      .key("devices", like(integer_list(1, 65536), "[1, 2]"), SATURN_AT(job.devices),
           "device counts that may be chosen; absent: all")
      .key("seed", integer(0, kMostInteger), SATURN_AT(seed),
           "of weights, order and dropout; absent: the batch's");
  schema.tables.push_back(optimizer_table());
  schema.tables.push_back(schedule_table());
  schema.tables.push_back(lora_table());
  schema.tables.push_back(table("grid",
                                "Lists of values: one job for each combination. A key is any key of the job.",
                                TableSchema::Form::axes));
  schema.tables.push_back(table("zip", "Lists of one length, walked side by side.", TableSchema::Form::axes));
  TableSchema random =
      table("random", "Drawn values: a list to choose from, or {min, max} with log = true or step = N.",
            TableSchema::Form::axes);
  Keys<RandomDraft>(random)
      .required("samples", integer(1, 10000), SATURN_AT(samples), "points to draw; {sample} is their number")
      .key("seed", integer(0, kMostInteger), SATURN_AT(seed), "of the draws; absent: the batch's");
  schema.tables.push_back(std::move(random));
  return schema;
}

TableSchema profile_table() {
  TableSchema schema = table("profile", "How configurations are measured.");
  Keys<ProfileSettings>(schema)
      .key("warmup_steps", integer(0, 10000), SATURN_AT(warmup_steps), "steps before the timed ones")
      .key("trial_steps", integer(1, 10000), SATURN_AT(trial_steps), "timed steps")
      .key("budget", duration(), SATURN_AT(budget_s), "stop measuring after it; 0: none")
      .key("trial_timeout", duration(), SATURN_AT(trial_timeout_s), "a trial that takes longer has failed");
  return schema;
}

TableSchema plan_table() {
  TableSchema schema = table("plan", "How the schedule is solved.");
  Keys<PlanSettings>(schema)
      .key("objective", one_of({"makespan"}), SATURN_AT(objective), "what is made small")
      .key("time_limit", duration(), SATURN_AT(time_limit_s), "of the solver")
      .key("gap", number(0, 1), SATURN_AT(gap), "stop once the plan is proved this close to the best")
      .key("iterations", integer(0), SATURN_AT(iterations),
           "instead of the time limit, for repeatable plans; 0: off");
  return schema;
}

TableSchema run_table() {
  TableSchema schema = table("run", "How the plan is carried out.");
  Keys<RunSettings>(schema)
      .key("checkpoint_every", integer(0), SATURN_AT(checkpoint_every), "steps; 0: none before the end")
      .key("introspect_every", duration(), SATURN_AT(introspect_every_s),
           "longest time between two looks at the plan under measured progress; 0: never")
      .key("max_moves", integer(0, 1000), SATURN_AT(max_moves),
           "times that a look may move one running job; 0: never")
      .key("max_restarts", integer(0, 1000), SATURN_AT(max_restarts), "of one job, before it has failed")
      .key("keep_checkpoints", integer(1, 1000), SATURN_AT(keep_checkpoints), "of one job")
      .key("log_every", integer(1), SATURN_AT(log_every), "steps between two lines of metrics.jsonl");
  return schema;
}

TableSchema search_table() {
  TableSchema schema = table("search", "Early stopping: which jobs train to their end. Absent: all do.");
  Keys<SearchSettings>(schema)
      .required(
          "method", one_of({"asha", "median", "ask"}), SATURN_AT(method),
          "asha: the best of each rung go on, the others wait for their turn; median: what is worse than "
          "half of the others is stopped; ask: a program proposes jobs, and stops them")
      .key("metric", one_of({"validation_loss", "validation_accuracy", "validation_accuracy_top5"}),
           SATURN_AT(metric), "what jobs are compared by; accuracies are of images")
      .custom(
          "goal", one_of({"min", "max"}),
          [](SearchSettings& search, const TomlValue& value) { search.goal = value.spelled; }, "",
          "of the metric; absent: min of a loss, max of an accuracy")
      .key("first_rung", integer(0), SATURN_AT(first_rung), "steps after which a job is first compared")
      .key("reduction_factor", integer(2, 1000), SATURN_AT(reduction_factor),
           "asha: one in so many goes on from a rung, to one at so many times the steps")
      .key("rung_every", integer(0), SATURN_AT(rung_every),
           "median and ask: steps between two rungs; 0: first_rung")
      .key("min_jobs", integer(1, 10000), SATURN_AT(min_jobs),
           "median: others that must have reached the rung before one is stopped")
      .key("command", like(text_list("a program and its arguments"), "[\"python3\", \"propose.py\"]"),
           SATURN_AT(command), "ask: what reads and writes JSON lines, started in the folder of this file")
      .key("samples", integer(0, 10000), SATURN_AT(samples), "ask: jobs that are proposed in all")
      .key("at_once", integer(0, 10000), SATURN_AT(at_once),
           "ask: of them not finished at one time; 0: as many as there are devices")
      .key("answer_timeout", duration(), SATURN_AT(answer_timeout_s), "ask: of each answer of the program");
  return schema;
}

#undef SATURN_AT

TableSchema root_table() {
  TableSchema root = table("", "A batch: jobs, their data, and where they run.");
  root.tables = {batch_table(),   devices_table(), data_table(), techniques_table(), job_table(),
                 profile_table(), plan_table(),    run_table(),  search_table()};
  return root;
}

}  // namespace

const TableSchema& batch_schema() {
  static const TableSchema schema = root_table();
  return schema;
}

const TableSchema& schema_of(const std::string& path) {
  const TableSchema* schema = &batch_schema();
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    schema = schema->find_table(path.substr(begin, end - begin));
    SATURN_CHECK(schema != nullptr, "only declared tables are asked for");
    begin = end + 1;
  }
  return *schema;
}

std::optional<HyperParameter> find_hyper_parameter(const std::string& name) {
  std::optional<HyperParameter> found;
  for (const std::string table : {"", "optimizer", "schedule", "lora"}) {
    for (const KeySchema& key : schema_of(table.empty() ? "job" : "job." + table).keys) {
      const HyperParameter candidate{table, &key};
      if (candidate.name() == "name") continue;
      if (candidate.name() == name) return candidate;
      if (key.name != name) continue;
      if (found) return std::nullopt;  // two tables have it: only the full name will do
      found = candidate;
    }
  }
  return found;
}

std::vector<std::string> hyper_parameter_names() {
  std::vector<std::string> names;
  for (const std::string table : {"", "optimizer", "schedule", "lora"}) {
    for (const KeySchema& key : schema_of(table.empty() ? "job" : "job." + table).keys) {
      if (table.empty() && key.name == "name") continue;
      const bool short_name_will_do = find_hyper_parameter(key.name).has_value();
      names.push_back(short_name_will_do ? key.name : HyperParameter{table, &key}.name());
    }
  }
  return names;
}

}  // namespace saturn::batch
