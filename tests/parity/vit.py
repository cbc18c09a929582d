"""ViT against timm."""

from image_model import compare

SGD = dict(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-3)
BASE = "vit_base_patch16_224"
CASES = [
    (BASE, dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2.5, num_classes=5, in_chans=3),
     {}),
    (BASE, dict(img_size=24, patch_size=6, embed_dim=33, depth=1, num_heads=3, num_classes=7, in_chans=1), {}),
    (BASE, dict(img_size=28, patch_size=14, embed_dim=40, depth=3, num_heads=5, mlp_ratio=64 / 13, num_classes=3,
                in_chans=3), dict(micro_batches=2)),
    (BASE, dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=1, num_classes=11, in_chans=1), SGD),
    ("vit_tiny_patch16_224", dict(img_size=32, depth=2, num_classes=6, in_chans=3), {}),
    (BASE, dict(img_size=40, patch_size=10, embed_dim=64, depth=2, num_heads=8, mlp_ratio=1.0, num_classes=4, in_chans=3),
     dict(SGD, nesterov=True)),
]

compare(CASES)
