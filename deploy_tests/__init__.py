"""The pytest suite that users run on their models: ``pytest deploy_tests --model M.onnx --data DIR``."""
