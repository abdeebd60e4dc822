//! Where the programs and directories of this workspace are.

use std::path::{Path, PathBuf};

/// The directory of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a directory of the workspace")
        .to_owned()
}

/// A program of ours, built beside the running test.
///
/// # Panics
/// When it is not built: cargo builds no programs of other packages for a test.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the system tells a process its program");
    // target/debug/deps/test-0123 or target/debug/program
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        panic!(
            "{name} is not beside {}: run cargo build --workspace --bins{profile}, or ./x test",
            own.display()
        )
    })
}

/// The built extension.
///
/// # Panics
/// When it is not built.
pub fn extension() -> PathBuf {
    let given = std::env::var_os("SONDE_EXTENSION_DIR").map(PathBuf::from);
    let dir = given.unwrap_or_else(|| root().join("clients/extension/dist"));
    assert!(
        dir.join("manifest.json").is_file(),
        "the extension is not built in {}: run npm ci && npm run build in clients/extension, or ./x setup",
        dir.display()
    );
    dir
}

/// A program of the system: on PATH, or in the cache that `./x setup` fills.
///
/// # Panics
/// When it is neither.
pub fn tool(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push(cache.join("sonde/bin"));
    places.iter().map(|dir| dir.join(name)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{name} is neither on PATH nor in {}: run ./x setup", cache.join("sonde/bin").display())
    })
}

/// A directory of real-world HTML: the documentation of Python, as Debian packages it.
///
/// # Panics
/// When the package is not installed.
pub fn documentation() -> PathBuf {
    let known =
        ["/usr/share/doc/python3.11/html", "/usr/share/doc/python3-doc/html", "/usr/share/doc/python3/html"];
    known
        .iter()
        .map(PathBuf::from)
        .find(|dir| dir.join("index.html").is_file())
        .unwrap_or_else(|| panic!("none of {known:?} is there: apt-get install python3-doc, or ./x setup"))
}
