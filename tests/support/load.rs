//! A busy host.

use std::process::{Child, Command, Stdio};

/// Processes that keep every processor busy.
pub struct Load(Vec<Child>);

impl Load {
    pub fn start() -> Self {
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        Self((0..std::thread::available_parallelism().unwrap().get()).map(busy).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
