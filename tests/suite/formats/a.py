import junitparser, haralyzer, jsonschema; print("ok")
