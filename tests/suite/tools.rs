//! Programs and packages made by others, for tests that let them judge: installed by the test that needs them, once, below
//! cargo's folder for tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder with these npm packages, each as in `ctrf@0.3.0`: `node_modules` is in it. No script of a package is run.
pub(crate) fn npm(packages: &[&str]) -> PathBuf {
    once("npm", packages, |folder| {
        require("node", "nodejs");
        require("npm", "npm");
        // Without one, npm looks for the root of a project further up.
        fs::write(folder.join("package.json"), r#"{"private": true}"#).expect("a package file");
        let quiet =
            ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-update-notifier", "--loglevel=error"];
        let mut npm = Command::new("npm");
        npm.arg("install").args(quiet).arg("--prefix").arg(folder).args(packages).current_dir(folder);
        npm
    })
}

/// The folder with these Python packages, each as in `junitparser==5.0.3`: for `PYTHONPATH`.
pub(crate) fn pip(packages: &[&str]) -> PathBuf {
    once("pip", packages, |folder| {
        require("python3", "python3");
        if !runs("python3", &["-m", "pip", "--version"]) {
            install("python3-pip");
            assert!(runs("python3", &["-m", "pip", "--version"]), "pip is missing: install the package python3-pip");
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(folder).args(packages);
        pip
    })
}

/// A script of ours under Node.js, with these packages at hand for `require`.
pub(crate) fn node(packages: &[&str], script: &Path) -> Command {
    let folder = npm(packages);
    require("node", "nodejs");
    let mut node = Command::new("node");
    node.arg(script).env("NODE_PATH", folder.join("node_modules"));
    node
}

/// A script of ours under Python, with these packages at hand.
pub(crate) fn python(packages: &[&str], script: &Path) -> Command {
    let folder = pip(packages);
    require("python3", "python3");
    let mut python = Command::new("python3");
    python.arg(script).env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// What a program printed on standard output.
///
/// # Errors
/// All that it printed, where it failed.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let ended = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    if ended.status.success() {
        return Ok(stdout.into_owned());
    }
    Err(format!("{command:?} ended with {}\n{stdout}\n{stderr}", ended.status))
}

/// Where a program is, after installing its Debian package where it is missing and that is possible.
pub(crate) fn require(program: &str, package: &str) -> PathBuf {
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
        found.filter(|_| runs(program, &["--version"]))
    };
    find().unwrap_or_else(|| {
        install(package);
        find().unwrap_or_else(|| panic!("{program} is missing: install the package {package}"))
    })
}

/// Installs a Debian package, as far as that may be done here. One at a time: apt-get does not wait for another one.
fn install(package: &str) {
    let _turn = locked("apt-get");
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if root && runs("apt-get", &["--version"]) {
        runs("apt-get", &["update"]);
        runs("apt-get", &["install", "--yes", "--no-install-recommends", package]);
    }
}

/// True if the program is there and is content with these arguments.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A folder with these packages, installed once for all tests and processes: others wait meanwhile. A stamp is left when it is
/// whole, so that an installation that was broken off begins again.
fn once(by: &str, packages: &[&str], install: impl FnOnce(&Path) -> Command) -> PathBuf {
    let named = packages.join("+").replace(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c), "_");
    let name = format!("{by}-{named}");
    // A name that a file system takes, and that no other list has.
    let name = if name.len() <= 100 { name } else { format!("{}-{:016x}", &name[..80], fnv(&name)) };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    let _turn = locked(&name);
    let stamp = folder.join("installed");
    let wanted = packages.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).expect("a folder");
    output(&mut install(&folder)).unwrap_or_else(|told| panic!("{packages:?} cannot be installed: {told}"));
    fs::write(stamp, wanted).expect("a stamp");
    folder
}

/// Waits for a turn; it ends when the file is dropped.
fn locked(name: &str) -> File {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    lock
}

/// FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
