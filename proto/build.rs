//! Compiles the contract with protox (no protoc needed), and derives the table
//! schemas and the row writers from the record messages.
#[path = "build/tables.rs"]
mod tables;

use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "sonde/record/v1/options.proto",
    "sonde/record/v1/record.proto",
    "sonde/record/v1/ledger.proto",
    "sonde/visit/v1/visit.proto",
    "sonde/browser/v1/browser_service.proto",
    "sonde/browser/v1/process_service.proto",
    "sonde/browser/v1/relay.proto",
    "sonde/storage/v1/ingest_service.proto",
    "sonde/storage/v1/blob_service.proto",
    "sonde/storage/v1/record_service.proto",
    "sonde/coordinator/v1/crawl_service.proto",
    "sonde/coordinator/v1/fleet_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=sonde");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    fs::write(out.join("tables.rs"), tables::generate(&compiler.descriptor_pool())?)?;

    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
