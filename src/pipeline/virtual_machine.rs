//! The virtual machine of a boot, as its template asks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::Context;
use crate::error::{Context as _, Kind, Result};
use crate::image::qemu_img;
use crate::machine::{self, Boot, Config, Display, Drive, Extra, Firmware, Format, Topology, Tpm, Vnc, VncPassword};
use crate::plan::Stage;
use crate::template::hardware::{self, Board, Screen};

/// Memory below which a build's guest is not started, MiB.
const LEAST_MEMORY: u64 = 1024;

/// Where the guest's SSH server listens, where nothing else is said.
const SSH: u16 = 22;

/// The port of the guest's SSH server.
pub(super) fn ssh_port(stage: &Stage) -> u16 {
    stage.machine.communicator.ssh_port.unwrap_or(SSH)
}

/// How long the guest may do nothing while something of it is waited for.
pub(super) fn idle_timeout(stage: &Stage) -> Duration {
    stage.machine.idle_timeout.unwrap_or(machine::IDLE_TIMEOUT)
}

/// The machine that boots `disk`. Its files in the working folder begin with the template's name and
/// `purpose`: each boot has firmware variables, a TPM and additional disks of its own, as each
/// instance of the image will have.
pub(super) fn config(
    context: &Context<'_>,
    stage: &Stage,
    disk: PathBuf,
    purpose: &str,
    seed: Option<PathBuf>,
) -> Result<Config> {
    let settings = context.settings;
    let hardware = &stage.machine.hardware;
    let file = |suffix: &str| context.work.join(format!("{}.{purpose}.{suffix}", stage.name));
    let topology = topology(&hardware.board);
    let all = topology.map(|topology| topology.sockets.saturating_mul(topology.cores).saturating_mul(topology.threads));
    let cpus = settings.insisted.cpus.or(stage.machine.cpus).or(all).or(settings.cpus);
    let memory = settings.insisted.memory.or(stage.machine.memory);
    let (cpus, memory) = machine::size_to_host(cpus, memory);
    let new = Config::new(format!("visabuild-{}", stage.name), settings.accelerator, disk);
    let sizes = hardware.disks.disk_additional_size.as_deref().unwrap_or_default();
    let drive =
        |number: usize| Drive { path: file(&format!("disk-{number}.qcow2")), format: Format::Qcow2, read_only: false };
    Ok(Config {
        program: hardware.board.qemu_binary.clone().unwrap_or(new.program),
        cpus,
        topology,
        memory: memory.max(LEAST_MEMORY),
        cpu_model: stage.machine.cpu_model.clone(),
        machine_type: hardware.board.machine_type.clone().unwrap_or(new.machine_type),
        interface: hardware.disks.disk_interface.unwrap_or(new.interface),
        cache: hardware.disks.disk_cache,
        discard: hardware.disks.disk_discard.unwrap_or(new.discard),
        detect_zeroes: hardware.disks.disk_detect_zeroes.unwrap_or(new.detect_zeroes),
        drives: (1..=sizes.len()).map(drive).collect(),
        seed,
        cdrom_interface: hardware.disks.cdrom_interface.unwrap_or(new.cdrom_interface),
        boot: Boot::Disk,
        firmware: firmware(&hardware.firmware, &file("vars.fd"))?,
        tpm: tpm(&hardware.firmware, file("tpm"))?,
        display: display(&hardware.screen, &settings.display),
        vga: hardware.screen.vga.map(str::to_owned),
        vnc: vnc(&hardware.screen, context, stage),
        usb: hardware.board.usb.unwrap_or_default(),
        net_device: hardware.board.net_device.clone().unwrap_or(new.net_device),
        guest_ports: vec![ssh_port(stage)],
        unsafe_cache: true,
        extra: extra(&hardware.board, stage, context.work.as_path(), None),
        ..Config::new(new.name, new.accelerator, new.disk)
    })
}

/// Makes the additional disks of a machine, and says which of its arguments the template replaces.
pub(super) async fn prepare(context: &Context<'_>, stage: &Stage, config: &Config) -> Result<()> {
    let sizes = stage.machine.hardware.disks.disk_additional_size.as_deref().unwrap_or_default();
    for (drive, size) in config.drives.iter().zip(sizes) {
        qemu_img::create_empty(&drive.path, *size, context.cancel).await?;
    }
    for text in config.replaced() {
        context.events.warn(Some(&stage.name), text);
    }
    Ok(())
}

fn topology(board: &Board) -> Option<Topology> {
    let said = [board.sockets, board.cores, board.threads];
    said.iter().any(Option::is_some).then(|| {
        let [sockets, cores, threads] = said.map(|count| count.unwrap_or(1));
        Topology { sockets, cores, threads }
    })
}

fn firmware(firmware: &hardware::Firmware, vars: &Path) -> Result<Firmware> {
    Ok(match (firmware.uefi(), &firmware.firmware) {
        (Some(uefi), _) => uefi.firmware(vars)?,
        (None, Some(path)) if firmware.use_pflash == Some(true) => Firmware::Flash(path.clone()),
        (None, Some(path)) => Firmware::File(path.clone()),
        (None, None) => Firmware::Bios,
    })
}

fn tpm(firmware: &hardware::Firmware, state: PathBuf) -> Result<Option<Tpm>> {
    if firmware.vtpm != Some(true) {
        return Ok(None);
    }
    fs::create_dir(&state).context(Kind::Host, || format!("making {}", state.display()))?;
    let device = firmware.tpm_device_type.unwrap_or("tpm-tis").to_owned();
    Ok(Some(Tpm { version1: firmware.use_tpm1.unwrap_or_default(), device, state }))
}

/// A window is opened where the command line or the template says so.
fn display(screen: &Screen, asked: &Display) -> Display {
    if *asked == Display::Headless && screen.headless != Some(false) {
        return Display::Headless;
    }
    match screen.display.as_deref() {
        _ if screen.use_default_display == Some(true) => Display::Default,
        // Packer's word for "as QEMU likes".
        Some("none") => Display::Default,
        Some(name) => Display::Named(name.to_owned()),
        None => Display::Window,
    }
}

fn vnc(screen: &Screen, context: &Context<'_>, stage: &Stage) -> Vnc {
    let new = Vnc::default();
    let first = screen.vnc_port_min.unwrap_or(new.ports.0);
    let last = screen.vnc_port_max.unwrap_or(new.ports.1.max(first.saturating_add(99)));
    let password = match &screen.vnc_password {
        Some(text) => Some(SecretString::from(text.plain())),
        None if screen.vnc_use_password == Some(true) => {
            let password = made_up();
            context.events.info(Some(&stage.name), format!("the screen's password for this boot is {password}"));
            Some(password.into())
        }
        None => None,
    };
    Vnc {
        address: screen.vnc_bind_address.unwrap_or(new.address),
        ports: (first.min(last), last),
        password: password.filter(|_| screen.vnc_use_password != Some(false)).map(VncPassword::new),
    }
}

/// Eight letters and digits that look like no others.
fn made_up() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789x";
    // The last eight bytes of a random UUID are random but for two bits, which are not used.
    let bytes = uuid::Uuid::new_v4().into_bytes();
    bytes[8..].iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

/// Arguments of the user's own. Those that name the web server's port are for the machine that installs, the only one
/// that has a `port`.
pub(super) fn extra(board: &Board, stage: &Stage, folder: &Path, port: Option<u16>) -> Vec<Extra> {
    let rows = board.qemuargs.as_deref().unwrap_or_default();
    let folder = folder.display().to_string();
    let rows = rows.iter().filter(|row| port.is_some() || !row.needs_port());
    rows.map(|row| Extra { switch: row.switch.clone(), value: row.value(&stage.name, &folder, port) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_opened_where_somebody_asks_for_one() {
        let headless = Screen::default();
        let window = Screen { headless: Some(false), ..Screen::default() };
        let named = Screen { display: Some("sdl".to_owned()), ..Screen::default() };
        let by_qemu = Screen { use_default_display: Some(true), ..window.clone() };
        for (screen, asked, shown) in [
            (&headless, Display::Headless, Display::Headless),
            (&headless, Display::Window, Display::Window),
            (&window, Display::Headless, Display::Window),
            (&named, Display::Headless, Display::Headless),
            (&named, Display::Window, Display::Named("sdl".to_owned())),
            (&by_qemu, Display::Headless, Display::Default),
        ] {
            assert_eq!(display(screen, &asked), shown, "{screen:?}");
        }
    }

    #[test]
    fn firmware_is_bios_unless_something_asks_for_more() {
        let none = hardware::Firmware::default();
        assert_eq!(firmware(&none, Path::new("/none")).unwrap(), Firmware::Bios);
        let file = hardware::Firmware { firmware: Some("/f".into()), ..none.clone() };
        assert_eq!(firmware(&file, Path::new("/none")).unwrap(), Firmware::File("/f".into()));
        let flash = hardware::Firmware { use_pflash: Some(true), ..file };
        assert_eq!(firmware(&flash, Path::new("/none")).unwrap(), Firmware::Flash("/f".into()));
        let secure = hardware::Firmware { efi_secure_boot: Some(true), ..none };
        let uefi = machine::Uefi { secure_boot: true, ..machine::Uefi::default() };
        assert_eq!(secure.uefi(), Some(uefi));
    }

    #[test]
    fn what_is_left_out_of_a_topology_is_one() {
        assert_eq!(topology(&Board::default()), None);
        let board = Board { cores: Some(4), ..Board::default() };
        assert_eq!(topology(&board), Some(Topology { sockets: 1, cores: 4, threads: 1 }));
    }

    #[test]
    fn passwords_for_the_screen_have_eight_letters() {
        let (one, other) = (made_up(), made_up());
        assert!(one.len() == 8 && one != other, "{one} {other}");
    }
}
