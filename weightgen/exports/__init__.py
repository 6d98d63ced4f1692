"""Networks whose weights were written, as files that other programs load: safetensors, PEFT folders, ONNX, NumPy."""

from weightgen.exports.export import FORMATS, Export, check_format, export_network

__all__ = ["FORMATS", "Export", "check_format", "export_network"]
