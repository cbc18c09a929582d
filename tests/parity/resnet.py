"""ResNet against timm, whose names and layout are also torchvision's."""

from image_model import compare

SGD = dict(optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=1e-3)
CASES = [
    ("resnet18", dict(layers=[1, 1, 1, 1], channels=[16, 32, 64, 128], num_classes=5, in_chans=3), {}),
    ("resnet50", dict(layers=[1, 2, 1, 1], channels=[8, 16, 32, 64], num_classes=7, in_chans=1), SGD),
    ("resnet18", dict(layers=[2, 1, 1, 1], channels=[64, 128, 256, 512], num_classes=6, in_chans=3),
     dict(SGD, lr=0.005)),
    ("resnet50", dict(layers=[1, 1, 1, 2], channels=[16, 32, 64, 128], num_classes=9, in_chans=3), {}),
    ("resnet18", dict(layers=[1, 3, 1, 2], channels=[24, 48, 96, 192], num_classes=8, in_chans=1),
     dict(SGD, nesterov=True)),
    ("resnet34", dict(layers=[1, 1, 2, 1], channels=[12, 24, 48, 96], num_classes=4, in_chans=3), {}),
]

compare(CASES)
