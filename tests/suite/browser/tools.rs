//! Chromium and the npm packages that look at pages: installed once, by whichever test comes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Exact versions, the newest that Node.js 18 runs: Debian 12 has that one.
const PACKAGES: [&str; 2] = ["puppeteer-core@24.40.0", "html-validate@9.7.1"];

/// What a script needs.
pub(crate) struct Tools {
    modules: PathBuf,
    chromium: PathBuf,
}

impl Tools {
    /// Installs what is missing; tests that come meanwhile wait for it.
    pub(crate) fn ready() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page-tools");
        let lock = File::create(folder.with_extension("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let chromium = program("chromium", "chromium");
        program("node", "nodejs");
        program("npm", "npm");
        let (stamp, wanted) = (folder.join("installed"), PACKAGES.join("\n"));
        if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            drop(fs::remove_dir_all(&folder));
            fs::create_dir_all(&folder).expect("a folder");
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix"])
                .arg(&folder)
                .args(PACKAGES);
            output(&mut npm);
            fs::write(stamp, wanted).expect("a stamp");
        }
        Self { modules: folder.join("node_modules"), chromium }
    }

    /// Runs a script of this folder, which asserts by itself, and gives what it printed.
    pub(crate) fn node(&self, script: &str, page: &Path, variables: &[(&str, &Path)]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/browser").join(script);
        let mut node = Command::new("node");
        node.arg(script).env("NODE_PATH", &self.modules).env("CHROMIUM", &self.chromium).env("PAGE", page);
        output(node.envs(variables.iter().copied()))
    }
}

/// Where a program is, after installing its package where it is missing and that is possible.
fn program(name: &str, package: &str) -> PathBuf {
    let find = || {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().expect("a shell");
        found.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
    };
    find().unwrap_or_else(|| {
        for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", package]] {
            // Another test may be installing something at the same time.
            let patience = ["-o", "DPkg::Lock::Timeout=300"];
            drop(Command::new("apt-get").args(patience).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status());
        }
        find().unwrap_or_else(|| panic!("{name} is missing: install the package {package}"))
    })
}

/// The program's output; panics with all of it when the program failed.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{stderr}");
    stdout
}
