//! What the end-to-end, fault and architecture suites share: an independent checker of stored data, and the means to
//! start, watch, kill and clear away processes. The suites are in `tests/tests/`, the benchmarks in `tests/benches/`.

pub mod checker;
pub mod docs;
pub mod integrity;
pub mod measure;
pub mod plugins;
pub mod process;
pub mod rig;
pub mod session;
pub mod trap;
pub mod up;
pub mod workspace;
pub mod world;
