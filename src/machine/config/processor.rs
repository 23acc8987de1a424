//! Board, processor, memory and firmware.

use std::path::Path;

use super::arguments::{Arguments, Value};
use super::{Accelerator, Boot, Config, Firmware};

impl Config {
    pub(super) fn processor(&self, arguments: &mut Arguments) {
        let (accelerator, best) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", "max"),
        };
        let firmware = match &self.firmware {
            Firmware::Bios | Firmware::File(_) => "",
            Firmware::Flash(_) => ",pflash0=firmware",
            Firmware::Uefi { secure_boot: false, .. } => ",pflash0=uefi-code,pflash1=uefi-vars",
            Firmware::Uefi { secure_boot: true, .. } => ",smm=on,pflash0=uefi-code,pflash1=uefi-vars",
        };
        arguments.option("-machine", Value::new(&format!("{}{firmware}", self.machine_type)));
        arguments.option("-accel", Value::new(accelerator));
        arguments.option("-cpu", Value::new(self.cpu_model.as_deref().unwrap_or(best)));
        arguments.option("-smp", Value::new(&self.cpus()));
        arguments.option("-m", Value::new(&format!("size={}M", self.memory)));
        // A panicked guest is kept, so that its screen can still be looked at.
        let reboot = if self.no_reboot { ",reboot=shutdown" } else { "" };
        arguments.option("-action", Value::new(&format!("panic=pause{reboot}")));
        self.smbios.arguments(arguments);
        self.firmware(arguments);
        if let Boot::Kernel { kernel, initrd, append } = &self.boot {
            arguments.option("-kernel", Value::verbatim(kernel.as_os_str()));
            arguments.option("-initrd", Value::verbatim(initrd.as_os_str()));
            arguments.option("-append", Value::verbatim(append.as_ref()));
        }
    }

    /// QEMU wants the product of an arrangement to be the number of CPUs that there may be; those that
    /// are not there at the start are left out, as Packer does.
    fn cpus(&self) -> String {
        let Some(topology) = self.topology else { return format!("cpus={}", self.cpus) };
        let (sockets, cores, threads) = (topology.sockets, topology.cores, topology.threads);
        let product = sockets.saturating_mul(cores).saturating_mul(threads);
        let cpus = self.cpus.min(product);
        format!("cpus={cpus},maxcpus={product},sockets={sockets},cores={cores},threads={threads}")
    }

    fn firmware(&self, arguments: &mut Arguments) {
        let node = |name: &str, path: &Path, read_only: &str| {
            Value::new(&format!("driver=raw,node-name={name},read-only={read_only},file.driver=file,file.filename="))
                .path(path.as_os_str())
        };
        match &self.firmware {
            Firmware::Bios => {}
            Firmware::File(path) => arguments.option("-bios", Value::verbatim(path.as_os_str())),
            Firmware::Flash(path) => arguments.option("-blockdev", node("firmware", path, "on")),
            Firmware::Uefi { code, vars, secure_boot } => {
                arguments.option("-blockdev", node("uefi-code", code, "on"));
                arguments.option("-blockdev", node("uefi-vars", vars, "off"));
                if *secure_boot {
                    // Only the firmware's own code may write the variables (OvmfPkg/README, SMM support).
                    let secure = "driver=cfi.pflash01,property=secure,value=on";
                    arguments.option("-global", Value::new(secure));
                    arguments.option("-global", Value::new("ICH9-LPC.disable_s3=1"));
                }
            }
        }
    }
}
