"""The encoder of the content space: from a BERT on disk to an ONNX model that may be served."""
