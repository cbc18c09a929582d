"""A family of classifiers against timm: logits through the whole pipeline of files, first gradients, the loss curve of an
optimiser, and the way back. A family's script says which models; this runs them through Saturn and compares."""

import json

import numpy
import PIL.Image
import timm
import torch
import torchvision.transforms
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from common import Checks, arguments, path_in, run, run_json, temporary_directory

STEPS = 10
MEAN = [0.45, 0.5, 0.4]
DEVIATION = [0.25, 0.2, 0.3]


def make_checkpoint(model, settings, directory):
    with torch.no_grad():  # biases and norms that are not 0 and 1, so that a mix-up shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    channels = settings["in_chans"]
    size = settings.get("img_size", 48)
    save_for_hf(model, directory, safe_serialization=True, model_config=dict(pretrained_cfg=dict(
        input_size=[channels, size, size], mean=MEAN[:channels], std=DEVIATION[:channels], crop_pct=0.875)))
    return size


def write_images(folder, num_classes, channels, generator):
    """JPEG and PNG files of several shapes, in one folder for each class; returns them in Saturn's order."""
    paths = []
    for label in range(num_classes):
        target = folder / f"class-{label:03}"
        target.mkdir(parents=True)
        for index in range(2):
            height, width = generator.integers(30, 130, 2)
            smooth = generator.integers(0, 256, (4, 5, 3), dtype=numpy.uint8)
            image = PIL.Image.fromarray(smooth).resize((int(width), int(height)), PIL.Image.BICUBIC)
            if (label + index) % 2:
                path = target / f"{index}.jpg"
                image.save(path, quality=90, subsampling=index % 3)
            else:
                path = target / f"{index}.png"
                (image.convert("L") if channels == 1 else image).save(path)
            paths.append(path)
    return paths


def interpolation_of(directory):
    """How timm resizes images for a stored model: its configurations ask for bicubic or bilinear."""
    return json.loads(path_in(directory, "config.json").read_text())["pretrained_cfg"].get("interpolation", "bilinear")


def compare_logits(checks, saturn, model, directory, folder, paths, channels, size, work):
    out = path_in(work, "logits.safetensors")
    told = run_json(saturn, "eval", directory, "--images", folder, "--logits", out, "--json")
    got = load_file(out)["logits"]
    interpolation = torchvision.transforms.InterpolationMode(interpolation_of(directory))
    prepare = torchvision.transforms.Compose([
        torchvision.transforms.Resize(int(size / 0.875), interpolation),
        torchvision.transforms.CenterCrop(size),
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize(MEAN[:channels], DEVIATION[:channels])])
    pixels = torch.stack([prepare(PIL.Image.open(path).convert("L" if channels == 1 else "RGB")) for path in paths])
    labels = torch.tensor([int(path.parent.name[-3:]) for path in paths])
    model.eval()
    with torch.no_grad():
        want = model(pixels)
        loss = torch.nn.functional.cross_entropy(want, labels).item()
    checks.close("logits of files", got, want[:64], 1e-3)
    checks.holds(f"loss {told['loss']}, expected {loss}", abs(told["loss"] - loss) <= 1e-3)
    checks.holds("count", told["count"] == len(paths))
    right = (want.argmax(1) == labels).double().mean().item()
    checks.holds(f"accuracy {told['accuracy']}, expected {right}", abs(told["accuracy"] - right) <= 1e-9)
    return pixels, labels


def make_optimizer(model, settings):
    groups = [{"params": [p for n, p in model.named_parameters() if p.dim() > 1 and n not in ("cls_token", "pos_embed")],
               "weight_decay": settings["weight_decay"]},
              {"params": [p for n, p in model.named_parameters() if p.dim() == 1 or n in ("cls_token", "pos_embed")],
               "weight_decay": 0.0}]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=settings["lr"], momentum=settings["momentum"], nesterov=settings["nesterov"])
    return torch.optim.AdamW(groups, lr=settings["lr"])


def train_reference(model, pixels, labels, settings):
    optimizer = make_optimizer(model, settings)
    losses, norms, gradients = [], [], {}
    model.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pixels), labels, label_smoothing=settings["label_smoothing"])
        loss.backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        limit = settings["clip_norm"] if settings["clip_norm"] > 0 else float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item())
        losses.append(loss.item())
        optimizer.step()
    return torch.tensor(losses), torch.tensor(norms), gradients


def compare_training(checks, options, model, directory, folder, batch, settings, channels, size, work):
    pixels, labels = batch
    save_file({"pixels": pixels.repeat(STEPS, 1, 1, 1, 1).contiguous(), "labels": labels.repeat(STEPS, 1).contiguous()},
              path_in(work, "batches.safetensors"))
    saved = path_in(work, "saved")
    run(options.driver, directory, path_in(work, "batches.safetensors"), path_in(work, "out.safetensors"), saved,
        json.dumps(settings))
    got = load_file(path_in(work, "out.safetensors"))
    losses, norms, gradients = train_reference(model, pixels, labels, settings)
    checks.holds(f"the loss falls from {losses[0]} to {losses[-1]}", losses[0] - losses[-1] >= 0.05)
    checks.close("losses", got["losses"] / losses, torch.ones(STEPS), 1e-4)
    # Gradients behind BatchNorm of few values grow rounding from step to step.
    checks.close("norms", got["norms"] / norms, torch.ones(STEPS), 1e-2)
    for name, want in gradients.items():
        difference = (got["gradient." + name] - want).norm().item()
        allowed = 1e-4 * want.norm().item() + 1e-6
        checks.holds(f"gradient of {name}: differs by {difference:.3g}, allowed {allowed:.3g}", difference <= allowed)
    checks.holds("gradients are of the same parameters",
                 {"gradient." + name for name in gradients} == {n for n in got if n.startswith("gradient.")})

    # The way back: timm loads what was written, and both read it alike.
    loaded = timm.create_model(f"local-dir:{saved}", pretrained=True)
    stored = load_file(saved / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            checks.close(f"trained {name}", stored[name], tensor, 5e-3)
    # The driver knows nothing of the images, and so neither does the config.json that it writes.
    config = json.loads((saved / "config.json").read_text())
    config["pretrained_cfg"].update(input_size=[channels, size, size], mean=MEAN[:channels], std=DEVIATION[:channels],
                                    crop_pct=0.875, interpolation=interpolation_of(directory))
    (saved / "config.json").write_text(json.dumps(config))
    out = path_in(work, "logits.safetensors")
    run(options.saturn, "eval", saved, "--images", folder, "--logits", out)
    with torch.no_grad():
        checks.close("logits of the trained model, loaded by timm", load_file(out)["logits"],
                     loaded.eval()(pixels)[:64], 1e-3)


def compare(cases):
    """Each case: timm's architecture, its arguments, the training's settings."""
    options = arguments()
    checks = Checks()
    for seed, (architecture, arguments_of_model, settings) in enumerate(cases):
        settings = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1, "momentum": 0.0, "nesterov": False,
                    "clip_norm": 0.5 if seed % 2 else 0.0, "label_smoothing": 0.1 if seed % 3 == 1 else 0.0, **settings}
        checks.case = f"case {seed} {architecture} {arguments_of_model}"
        with temporary_directory() as work:
            directory = path_in(work, "checkpoint")
            torch.manual_seed(seed)
            model = timm.create_model(architecture, **arguments_of_model)
            channels = arguments_of_model["in_chans"]
            size = make_checkpoint(model, arguments_of_model, directory)
            folder = path_in(work, "images")
            paths = write_images(folder, arguments_of_model["num_classes"], channels, numpy.random.default_rng(seed))
            batch = compare_logits(checks, options.saturn, model, directory, folder, paths, channels, size, work)
            compare_training(checks, options, model, directory, folder, batch, settings, channels, size, work)
    checks.end()
