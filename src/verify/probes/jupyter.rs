//! Probes of JupyterLab behind the platform's proxy.

use std::time::Duration;

use super::{Bench, Probed, failed, not_run};
use crate::error::Result;
use crate::verify::contract::{JUPYTER, What};
use crate::verify::web::jupyter::Jupyter;

/// How long the first kernel of an emulated guest may take.
const PATIENCE: Duration = Duration::from_secs(180);

impl Bench<'_, '_> {
    pub(super) async fn notebook(&mut self, what: &What) -> Probed {
        if self.jupyter.is_none() {
            self.jupyter = match self.server()? {
                Ok(server) => Some(server),
                Err(why) => return not_run(why),
            };
        }
        let Some(server) = &self.jupyter else { return not_run("no server") };
        match what {
            What::JupyterKernel { run, output } => {
                let code = self.fill(run);
                let said = in_kernel(server, &code).await?;
                self.judge(format!("kernel, `{code}`"), output, &said)
            }
            What::JupyterTerminal { run, output } => {
                let command = self.fill(run);
                let said = server.terminal_run(&command).await?;
                self.judge(format!("terminal, `{command}`"), output, &said)
            }
            What::JupyterOrigin => {
                let kernel = server.start_kernel().await?;
                let status = server.foreign_origin(&kernel).await;
                server.delete_kernel(&kernel).await?;
                match status? {
                    status @ (101 | 200..300) => refusal_expected("a kernel's WebSocket for another origin", status),
                    _ => Ok(Ok(())),
                }
            }
            What::JupyterXsrf => {
                let status = server.start_kernel_without_cookie().await?;
                if status != 403 {
                    return failed(
                        "a kernel asked for without the cookie".to_owned(),
                        "status 403".to_owned(),
                        format!("status {status}"),
                    );
                }
                let kernel = server.start_kernel().await?;
                server.delete_kernel(&kernel).await?;
                Ok(Ok(()))
            }
            What::JupyterUpload { bytes } => upload(server, *bytes).await,
            _ => not_run("no probe of Jupyter"),
        }
    }

    /// JupyterLab as the platform's proxy reaches it; the inner result says why nobody does.
    fn server(&self) -> Result<Result<Jupyter, String>> {
        let instance = match self.running() {
            Ok(instance) => instance,
            Err(why) => return Ok(Err(why)),
        };
        let Some(id) = instance.variables.get("id") else {
            return Ok(Err("the boot's metadata have no `id`".to_owned()));
        };
        let host = &instance.variables["host"];
        let server = Jupyter::new(instance.address(JUPYTER)?, &format!("/jupyter/{id}"), host)?;
        Ok(Ok(server.patience(PATIENCE)))
    }
}

fn refusal_expected(what: &str, status: u16) -> Probed {
    failed(what.to_owned(), "a refusal".to_owned(), format!("status {status}"))
}

/// Runs code in a kernel of its own.
async fn in_kernel(server: &Jupyter, code: &str) -> Result<String> {
    let kernel = server.start_kernel().await?;
    let output = server.run(&kernel, code).await;
    server.delete_kernel(&kernel).await?;
    let output = output?;
    let exception = output.exception.map(|exception| format!("{}: {}", exception.name, exception.value));
    let parts = [Some(output.stdout), Some(output.stderr), output.result, exception];
    Ok(parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"))
}

async fn upload(server: &Jupyter, bytes: usize) -> Probed {
    let content: Vec<u8> = (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = "visabuild-verify.bin";
    server.upload(path, &content).await?;
    let back = server.download(path).await;
    server.delete_file(path).await?;
    let back = back?;
    if back == content {
        return Ok(Ok(()));
    }
    failed(
        "an upload to Jupyter".to_owned(),
        format!("the same {bytes} bytes back"),
        format!("{} bytes, not the same", back.len()),
    )
}
