//! What a run is about: its target, its configuration with the source of each value, and the version of the suite. `run.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Environment, FAULT, Places, Settings, Target, stated_keys};
use crate::evidence::SCHEMA;
use crate::secret::redact;
use crate::time::now_iso;

/// `run.json`, written when a run begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run.
    pub run_id: String,
    /// The target's name.
    pub target: String,
    /// True if the target is a stand-in inside the test process: the run proves the suite, not staging.
    #[serde(default)]
    pub embedded: bool,
    /// The fault that the embedded stand-in tells on purpose.
    #[serde(default)]
    pub fault: Option<String>,
    /// Base URL of the HTTP API; none where the configuration could not be read.
    pub api: Option<String>,
    /// URL of the WebSocket.
    pub ws: Option<String>,
    /// Base URL of the auth service.
    pub auth: Option<String>,
    /// Version of the suite.
    pub suite_version: String,
    /// Commit of the suite, where it is known.
    #[serde(default)]
    pub commit: Option<String>,
    /// Start, ISO 8601 in UTC.
    pub started_at: String,
    /// Values that decide where and as whom, each with its source; a secret is `set` or `missing`.
    #[serde(default)]
    pub configuration: Vec<Setting>,
    /// All settings of the target.
    pub settings: Option<Settings>,
    /// For a run that was put together from shards: their run ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
}

/// A value of the configuration, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Key of `staging.toml`, or name of a variable.
    pub key: String,
    /// The value; of a secret, `set` or `missing`.
    pub value: String,
    /// A file, a variable, `default`, or the embedded stand-in.
    pub source: String,
}

impl About {
    /// Of a run that begins now. Without a target, of one whose configuration is wrong.
    #[must_use]
    pub fn new(env: &Environment, places: &Places, run_id: &str, target: Option<&Target>) -> Self {
        let url = |of: fn(&Target) -> &url::Url| target.map(|target| of(target).to_string());
        Self {
            schema: SCHEMA,
            run_id: run_id.to_owned(),
            target: target.map_or_else(|| env.target_name().to_owned(), |target| target.name.clone()),
            embedded: target.is_some_and(|target| target.embedded),
            fault: env.get(FAULT).map(redact),
            api: url(|it| &it.api),
            ws: url(|it| &it.ws),
            auth: url(|it| &it.auth),
            suite_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(env, &places.root),
            started_at: now_iso(),
            configuration: target.map(|target| configuration(env, &places.config, target)).unwrap_or_default(),
            settings: target.map(|target| target.settings.clone()),
            shards: Vec::new(),
        }
    }

    /// Of a run whose `run.json` is gone.
    #[must_use]
    pub fn unknown(run_id: &str, target: &str) -> Self {
        Self {
            schema: SCHEMA,
            run_id: run_id.to_owned(),
            target: target.to_owned(),
            embedded: false,
            fault: None,
            api: None,
            ws: None,
            auth: None,
            suite_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            started_at: now_iso(),
            configuration: Vec::new(),
            settings: None,
            shards: Vec::new(),
        }
    }

    /// What earlier runs are compared by: the target, with its host unless it is embedded, and the fault that it tells.
    #[must_use]
    pub fn compared_by(&self) -> String {
        let host = self.api.as_deref().and_then(|api| url::Url::parse(api).ok());
        let host = host.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        let host = host.filter(|_| !self.embedded).map_or(String::new(), |host| format!(" at {host}"));
        let fault = self.fault.as_ref().map_or(String::new(), |fault| format!(" with the fault {fault}"));
        format!("{}{host}{fault}", self.target)
    }
}

/// Every value that decides where and as whom, with the place that it comes from.
#[must_use]
pub fn configuration(env: &Environment, config: &Path, target: &Target) -> Vec<Setting> {
    let settings = &target.settings;
    let stated = stated_keys(config, &target.name);
    let setting = |key: &str, value: String, variable: Option<&str>| {
        let source = match variable.filter(|variable| env.get(variable).is_some()) {
            Some(variable) => variable.to_owned(),
            None if target.embedded && key.ends_with("_url") => "the embedded stand-in".to_owned(),
            None if stated.iter().any(|it| it == key) => config.display().to_string(),
            None => "default".to_owned(),
        };
        Setting { key: key.to_owned(), value, source }
    };
    let kind = serde_json::to_value(settings.token_source).unwrap_or_default();
    let mut all = vec![
        setting("target", target.name.clone(), Some("CRITICAL_TARGET")),
        setting("api_url", target.api.to_string(), Some("CRITICAL_API_URL")),
        setting("ws_url", target.ws.to_string(), Some("CRITICAL_WS_URL")),
        setting("auth_url", target.auth.to_string(), Some("CRITICAL_AUTH_URL")),
    ];
    if let Some(file) = &settings.ca_file {
        all.push(setting("ca_file", file.display().to_string(), Some("CRITICAL_CA_FILE")));
    }
    all.push(setting("environment", settings.environment.clone(), None));
    all.push(setting("token_source", kind.as_str().unwrap_or_default().to_owned(), None));
    if !settings.mint.is_empty() {
        let claims: Vec<_> = settings.mint.iter().map(|(claim, value)| format!("{claim} = {value}")).collect();
        all.push(setting("mint", claims.join(", "), None));
    }
    let secrets = [(&settings.jwt_secret_env, target.jwt_secret.is_some()), (&settings.e2e_key_env, target.e2e_key.is_some())];
    for (variable, given) in secrets {
        let source = if target.embedded { "the embedded stand-in" } else { "the environment" };
        let value = if given { "set" } else { "missing" };
        all.push(Setting { key: variable.clone(), value: value.to_owned(), source: source.to_owned() });
    }
    all
}

/// The commit that the suite is built from: as CI says it, or as the checkout has it.
fn commit(env: &Environment, root: &Path) -> Option<String> {
    let told = ["GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"].into_iter().find_map(|name| env.get(name));
    told.map(str::to_owned).or_else(|| checked_out(&root.join(".git")))
}

/// What `HEAD` of a git folder points at (gitrepository-layout(5)); a worktree's `.git` is a file that names its folder.
fn checked_out(git: &Path) -> Option<String> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let (git, common) = match read(git) {
        None => (git.to_path_buf(), git.to_path_buf()),
        Some(file) => {
            let own = PathBuf::from(file.strip_prefix("gitdir: ")?.trim());
            let common = read(&own.join("commondir")).map_or_else(|| own.clone(), |path| own.join(path.trim()));
            (own, common)
        }
    };
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    let loose = read(&common.join(name)).map(|id| id.trim().to_owned());
    loose.or_else(|| {
        let packed = read(&common.join("packed-refs"))?;
        packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_read_from_a_checkout_in_each_of_its_forms() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = folder.path().join(".git");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("a file");
        };
        assert_eq!(checked_out(&git), None);
        write(".git/HEAD", "0123abc\n");
        assert_eq!(checked_out(&git).as_deref(), Some("0123abc"));
        write(".git/HEAD", "ref: refs/heads/main\n");
        write(".git/packed-refs", "# pack-refs\n4567def refs/heads/main\n");
        assert_eq!(checked_out(&git).as_deref(), Some("4567def"));
        write(".git/refs/heads/main", "89abcde\n");
        assert_eq!(checked_out(&git).as_deref(), Some("89abcde"));
        let tree = folder.path().join("tree");
        write(".git/worktrees/tree/HEAD", "ref: refs/heads/main\n");
        write(".git/worktrees/tree/commondir", "../..\n");
        write("tree/.git", &format!("gitdir: {}\n", git.join("worktrees/tree").display()));
        assert_eq!(checked_out(&tree.join(".git")).as_deref(), Some("89abcde"));
    }
}
