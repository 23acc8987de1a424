//! What comes out of the cache is what a build from the start makes, on the shipped chain: edits of its scripts, files,
//! variables and steps in a random order. Layers are compared, file by file.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::bench::cache_with_the_base;
use support::random::Random;
use support::tree::{Tree, differences, newest_layer};
use support::{keys, shared, told, visabuild};
use uuid::Uuid;

/// What no two builds make the same: how the paths begin and end, and why.
const OF_A_BUILD: [(&str, &str, &str); 9] = [
    ("/var/cache/fontconfig/", ".cache-9", "times of the folders with fonts"),
    ("/opt/visa/", ".pyc", "times of the sources"),
    ("/root/.jupyter/migrated", "", "the time when Jupyter's settings were made"),
    ("/var/cache/apt/", ".bin", "times of lists"),
    ("/etc/ssl/certs/ssl-cert-snakeoil.pem", "", "made with a new key by its package"),
    ("/etc/ssl/private/ssl-cert-snakeoil.key", "", "a new key"),
    ("/etc/xrdp/cert.pem", "", "made with a new key"),
    ("/etc/xrdp/key.pem", "", "a new key"),
    ("/etc/xrdp/rsakeys.ini", "", "new keys"),
];

/// The manifest of the last template.
const LAST: &str = "templates/visa-apps/manifest.yml";

/// One edit of the project.
#[derive(Debug, Clone, Copy)]
enum Edit {
    /// A line at the end of a file.
    Line(&'static str),
    /// A file that was not there.
    New(&'static str),
    /// A file that can no longer be run.
    NotExecutable(&'static str),
    /// Another value of the variable whose line in the file this is.
    Variable(&'static str, &'static str),
    /// A step at the end of visa-apps.
    Step,
    /// As it was before the last edit.
    Back,
}

const EDITS: [Edit; 10] = [
    Edit::Line("scripts/configure-jupyter.sh"),
    Edit::Line("templates/visa-apps/files/usr/lib/visa/open-jupyterlab"),
    Edit::Line("templates/visa-apps/data-analysis.lock"),
    Edit::New("templates/visa-apps/files/etc/edited"),
    Edit::NotExecutable("templates/visa-apps/files/usr/lib/visa/open-jupyterlab"),
    Edit::Variable("templates/visa-apps/environment.yml", "  kernel_name: Data Analysis\n"),
    Edit::Step,
    Edit::Back,
    Edit::Line("scripts/configure-system.sh"),
    Edit::Line("templates/visa-base/first-boot/setup-owner"),
];

/// A copy of the shipped project.
struct Project {
    folder: tempfile::TempDir,
    salt: Uuid,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_, err, code) = told(&visabuild().arg("init").arg(folder.path().join("now")).output().unwrap());
        assert_eq!(code, 0, "{err}");
        Self { folder, salt: Uuid::new_v4() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("now")
    }

    fn edit(&self, edit: Edit) {
        let (root, before) = (self.root(), self.folder.path().join("before"));
        if matches!(edit, Edit::Back) && before.exists() {
            fs::remove_dir_all(&root).unwrap();
            fs::rename(before, root).unwrap();
            return;
        }
        let _ = fs::remove_dir_all(&before);
        assert!(Command::new("cp").arg("-a").arg(&root).arg(&before).status().unwrap().success());
        let change = |path: &str, change: &dyn Fn(String) -> String| {
            let path = root.join(path);
            fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        };
        let salt = self.salt;
        match edit {
            Edit::Line(path) if path.starts_with("scripts/") => {
                change(path, &|text| format!("{text}\necho {salt} >>/etc/edited-by-scripts\n"));
            }
            Edit::Line(path) => change(path, &|text| format!("{text}\n# {salt}\n")),
            Edit::New(path) => fs::write(root.join(path), salt.to_string()).unwrap(),
            Edit::NotExecutable(path) => {
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o644)).unwrap();
            }
            Edit::Variable(path, line) => change(path, &|text| {
                assert!(text.contains(line), "{line:?} in {text}");
                text.replace(line, &format!("{} {salt}\n", line.trim_end()))
            }),
            Edit::Step => change(LAST, &|text| {
                let step = format!("    - type: shell\n      inline: [echo {salt} >/etc/edited-by-a-step]\n");
                text.replace("\nverify:", &format!("{step}\nverify:"))
            }),
            Edit::Back => {}
        }
    }

    /// Builds the chain to its last layer, without a seal; returns the layer's files and what was said.
    async fn build(&self, cache: &Path) -> (Tree, String) {
        let manifest = fs::read_to_string(self.root().join(LAST)).unwrap();
        let steps = manifest.lines().filter(|line| line.starts_with("    - type: ")).count();
        let (_, key) = keys(&shared());
        let mut build = visabuild();
        build.env("XDG_CACHE_HOME", cache).args(["build", "visa-apps", "--engine", "nspawn", "--lock-root", "-C"]);
        build.arg(self.root()).args(["--until", &format!("visa-apps:{steps}"), "-pp"]).arg(key);
        let (_, err, code) = told(&build.output().unwrap());
        assert_eq!(code, 0, "{err}");
        (newest_layer(cache, "visa-apps").await, err)
    }
}

#[tokio::test]
async fn full_nspawn_ten_edits_of_the_shipped_chain_give_what_a_build_from_the_start_gives() {
    let mut random = Random::new();
    let folder = tempfile::tempdir_in(shared()).unwrap();
    let [filled, empty] =
        ["filled", "empty"].map(|name| cache_with_the_base(&shared().join("cache"), &folder.path().join(name)));
    let project = Project::new();
    project.build(&filled).await;
    let mut edits = EDITS.to_vec();
    while !edits.is_empty() {
        let edit = edits.swap_remove(random.below(edits.len()));
        project.edit(edit);
        let (cached, said) = project.build(&filled).await;
        let taken = said.contains("steps left to do") || said.contains("its layer is in the cache");
        assert!(taken, "{edit:?} begins at the start: {said}");
        let (anew, _) = project.build(&empty).await;
        for store in ["layers", "checkpoints"] {
            fs::remove_dir_all(empty.join("visabuild").join(store)).unwrap();
        }
        let mut differing = differences(&cached, &anew);
        differing.retain(|line| {
            let path = line.split(": ").next().unwrap_or_default();
            !OF_A_BUILD.iter().any(|(start, end, _)| path.starts_with(start) && path.ends_with(end))
        });
        assert!(differing.is_empty(), "{edit:?}: {differing:#?}\n{said}");
        assert!(cached.len() > 50_000, "{} files", cached.len());
        eprintln!("{edit:?}: {} files are the same", cached.len());
        let mut collect = visabuild();
        collect.env("XDG_CACHE_HOME", &filled).args(["cache", "gc", "--max-size", "12G"]);
        let (_, err, code) = told(&collect.output().unwrap());
        assert_eq!(code, 0, "{err}");
    }
}
