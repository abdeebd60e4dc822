//! End-to-end, fault and architecture suites; see `tests/tests/`.
