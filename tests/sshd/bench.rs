//! Provisioners in a guest that is a real sshd.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use visabuild::error::{Location, Result};
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::guest::Guest;
use visabuild::provision::{Context, run};
use visabuild::template::{Action, FileCopy, FileSource, HostPath, Provisioner, Shell, ShellSource, Text};

use super::Sshd;

pub const PASSWORD: &str = "hunter2 it's $(x)";

pub type OnLine = Box<dyn Fn(&str) + Send + Sync>;

/// Keeps all output lines and calls a function for each.
struct Lines(Arc<Mutex<Vec<String>>>, OnLine);

impl Subscriber for Lines {
    fn receive(&self, event: &Timed) {
        if let Event::Output { line, .. } = &event.event {
            self.0.lock().unwrap().push(line.clone());
            (self.1)(line);
        }
    }
}

pub struct Bench {
    pub sshd: Arc<Sshd>,
    pub guest: Guest,
    pub environment: Vec<(String, Text)>,
}

impl Bench {
    pub async fn new() -> Self {
        let sshd = Arc::new(Sshd::start().await);
        let guest = sshd.connect().await;
        Self { sshd, guest, environment: Vec::new() }
    }

    /// A folder for files, made.
    pub fn folder(&self, name: &str) -> std::path::PathBuf {
        let path = self.sshd.folder().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub async fn run(&mut self, provisioner: &Provisioner, on_line: OnLine) -> (Result<()>, Vec<String>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let events = Events::new(vec![Box::new(Lines(Arc::clone(&lines), on_line))], Redactor::new([PASSWORD]));
        let phase = events.phase("visa-base", provisioner.label.clone());
        let work = self.sshd.folder();
        let context =
            Context { phase: &phase, environment: &self.environment, builder_type: "qemu", work, breakpoints: None };
        let result = run(&mut self.guest, provisioner, &context).await;
        let lines = lines.lock().unwrap().clone();
        (result, lines)
    }

    pub async fn lines(&mut self, provisioner: &Provisioner) -> Vec<String> {
        let (result, lines) = self.run(provisioner, Box::new(|_| {})).await;
        result.map_err(|error| error.chain()).unwrap();
        lines
    }

    pub async fn failure(&mut self, provisioner: &Provisioner) -> visabuild::error::Error {
        self.run(provisioner, Box::new(|_| {})).await.0.unwrap_err()
    }

    /// Scripts and variable files go here, and nothing may be left of them.
    pub fn shell(&self, source: ShellSource) -> Shell {
        Shell {
            source,
            inline_shebang: "/bin/sh -e".into(),
            environment_vars: Vec::new(),
            execute_command: "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}".into(),
            remote_folder: self.sshd.folder().join("remote").to_str().unwrap().to_owned(),
            remote_file: None,
            remote_path: None,
            skip_clean: false,
            expect_disconnect: false,
            valid_exit_codes: vec![0],
            pause_after: None,
            binary: false,
        }
    }

    pub fn inline(&self, line: &str) -> Shell {
        self.shell(ShellSource::Inline(vec![line.into()]))
    }

    pub fn remote_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.sshd.folder().join("remote")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

pub fn provisioner(action: Action) -> Provisioner {
    let location = Location { file: "templates/visa-base/manifest.yml".into(), line: 12, column: 5 };
    Provisioner {
        label: "install xrdp".into(),
        action,
        pause_before: None,
        timeout: None,
        max_retries: None,
        cache: None,
        location,
    }
}

pub fn shell(shell: Shell) -> Provisioner {
    provisioner(Action::Shell(shell))
}

pub fn scripts(paths: &[&Path]) -> ShellSource {
    ShellSource::Scripts(paths.iter().map(|path| host_path(path, false)).collect())
}

pub fn host_path(path: &Path, contents_only: bool) -> HostPath {
    HostPath {
        path: path.to_path_buf(),
        shown: path.file_name().unwrap().to_str().unwrap().to_owned(),
        contents_only,
        secrets: [].into(),
    }
}

pub fn copy(sources: &[&Path], contents_only: bool, destination: &Path, slash: &str, mode: Option<u32>) -> Provisioner {
    let sources = sources.iter().map(|path| host_path(path, contents_only));
    let destination = Text::public(format!("{}{slash}", destination.display()));
    let source = FileSource::Paths(sources.collect());
    provisioner(Action::File(FileCopy { source, destination, mode, generated: false }))
}

pub fn secret(value: &str) -> Text {
    Text::new("‹root_password›".into(), value.into(), ["root_password".to_owned()].into())
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}
