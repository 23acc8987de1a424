//! Golden command lines.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// One option with its value a line.
fn lines(config: &Config) -> String {
    let mut text = String::new();
    for argument in config.arguments(Path::new("/run/vb")) {
        let argument = argument.into_string().unwrap();
        text.push_str(match (text.is_empty(), argument.starts_with('-')) {
            (true, _) => "",
            (false, true) => "\n",
            (false, false) => " ",
        });
        text.push_str(&argument);
    }
    text
}

fn config() -> Config {
    Config::new("visa-base", Accelerator::Tcg, "/cache/disk.qcow2")
}

#[test]
fn tcg_headless() {
    let config = Config { seed: Some("/run/vb/seed.img".into()), unsafe_cache: true, ..config() };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35
    -accel tcg,thread=multi
    -cpu max
    -smp cpus=2
    -m size=2048M
    -action panic=pause
    -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,cache.no-flush=on,file.cache.no-flush=on,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -blockdev node-name=seed,driver=raw,read-only=on,file.driver=file,file.filename=/run/vb/seed.img
    -device virtio-blk-pci,drive=seed
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -device VGA
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display none
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    ");
}

#[test]
fn kvm_with_forwarded_ports_and_no_network() {
    let config = Config {
        accelerator: Accelerator::Kvm,
        cpus: 8,
        memory: 4096,
        guest_ports: vec![22, 3389, 4822, 8888],
        restrict: true,
        snapshot: true,
        ..config()
    };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35
    -accel kvm
    -cpu host
    -smp cpus=8
    -m size=4096M
    -action panic=pause
    -drive if=none,id=disk,snapshot=on,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:3389,hostfwd=tcp:127.0.0.1:0-:4822,hostfwd=tcp:127.0.0.1:0-:8888
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -device VGA
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display none
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    ");
}

#[test]
fn uefi_with_a_window_and_an_extra_drive() {
    let config = Config {
        firmware: Firmware::Uefi {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            vars: "/run/vb/vars.fd".into(),
            secure_boot: false,
        },
        display: Display::Window,
        cpu_model: Some("Nehalem".to_owned()),
        format: Format::Raw,
        drives: vec![Drive { path: "/data/extra.qcow2".into(), format: Format::Qcow2, read_only: false }],
        ..config()
    };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35,pflash0=uefi-code,pflash1=uefi-vars
    -accel tcg,thread=multi
    -cpu Nehalem
    -smp cpus=2
    -m size=2048M
    -action panic=pause
    -blockdev driver=raw,node-name=uefi-code,read-only=on,file.driver=file,file.filename=/usr/share/OVMF/OVMF_CODE_4M.fd
    -blockdev driver=raw,node-name=uefi-vars,read-only=off,file.driver=file,file.filename=/run/vb/vars.fd
    -blockdev node-name=disk,driver=raw,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -blockdev node-name=drive0,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/data/extra.qcow2
    -device virtio-blk-pci,drive=drive0,werror=stop,rerror=stop
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -device VGA
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display gtk
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    ");
}

#[test]
fn direct_kernel_boot() {
    let config = Config {
        boot: Boot::Kernel {
            kernel: "/cache/vmlinuz".into(),
            initrd: "/cache/initrd.img".into(),
            append: "root=LABEL=root console=ttyS0,115200".to_owned(),
        },
        ..config()
    };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35
    -accel tcg,thread=multi
    -cpu max
    -smp cpus=2
    -m size=2048M
    -action panic=pause
    -kernel /cache/vmlinuz
    -initrd /cache/initrd.img
    -append root=LABEL=root console=ttyS0,115200
    -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -device VGA
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display none
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    ");
}

#[test]
fn commas_in_paths_are_doubled_where_qemu_parses_options() {
    let config = Config {
        name: "a,b".to_owned(),
        seed: Some("/x,y/seed.img".into()),
        boot: Boot::Kernel { kernel: "/k,1".into(), initrd: "/i,2".into(), append: "console=ttyS0,9600".to_owned() },
        ..Config::new("", Accelerator::Tcg, "/disks,all/d.qcow2")
    };
    let text = lines(&config);
    for expected in [
        "-name guest=a,,b\n",
        "file.filename=/disks,,all/d.qcow2\n",
        "file.filename=/x,,y/seed.img\n",
        "-kernel /k,1\n-initrd /i,2\n-append console=ttyS0,9600\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn a_path_need_not_be_utf8() {
    let path = OsStr::from_bytes(b"/d/\xff.qcow2");
    let arguments = Config::new("n", Accelerator::Tcg, PathBuf::from(path)).arguments(Path::new("/run"));
    assert!(arguments.iter().any(|argument| argument.as_bytes().ends_with(b"file.filename=/d/\xff.qcow2")));
}

#[test]
fn an_installers_cds_floppy_and_tables() {
    let config = Config {
        cdroms: vec!["/cache/debian, 13.iso".into(), "/build/cidata.iso".into()],
        floppy: Some("/build/floppy.img".into()),
        smbios: Smbios {
            system: vec![("manufacturer", "A, B".to_owned()), ("serial", "ds=nocloud;s=http://10.0.2.2/".to_owned())],
            oem_strings: vec!["one=1,2".to_owned(), "two".to_owned()],
        },
        boot: Boot::Cdrom,
        no_reboot: true,
        ..config()
    };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35
    -accel tcg,thread=multi
    -cpu max
    -smp cpus=2
    -m size=2048M
    -action panic=pause,reboot=shutdown
    -smbios type=1,manufacturer=A,, B,serial=ds=nocloud;s=http://10.0.2.2/
    -smbios type=11,value=one=1,,2,value=two
    -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -blockdev node-name=cd0,driver=raw,read-only=on,file.driver=file,file.filename=/cache/debian,, 13.iso
    -device ide-cd,bus=ide.0,drive=cd0,bootindex=2
    -blockdev node-name=cd1,driver=raw,read-only=on,file.driver=file,file.filename=/build/cidata.iso
    -device ide-cd,bus=ide.1,drive=cd1
    -blockdev node-name=floppy,driver=raw,read-only=on,file.driver=file,file.filename=/build/floppy.img
    -device isa-fdc
    -device floppy,drive=floppy
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -device VGA
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display none
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    ");
}

#[test]
fn each_interface_has_its_controller() {
    let devices = |machine_type: &str, interface, cdrom_interface| {
        let drive = Drive { path: "/d".into(), format: Format::Raw, read_only: false };
        let config = Config {
            machine_type: machine_type.to_owned(),
            interface,
            cdrom_interface,
            drives: vec![drive; 2],
            cdroms: vec!["/c".into(); 3],
            floppy: Some("/f".into()),
            ..config()
        };
        let all = lines(&config);
        let drives =
            all.lines().filter(|line| ["drive=", "fdc", "scsi", "ahci", "lsi"].iter().any(|part| line.contains(part)));
        drives.filter_map(|line| line.strip_prefix("-device ")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(devices("q35", Interface::Ide, Interface::Sata), @r"
    ide-hd,bus=ide.0,drive=disk,bootindex=1,werror=stop,rerror=stop
    ide-hd,bus=ide.1,drive=drive0,werror=stop,rerror=stop
    ide-hd,bus=ide.2,drive=drive1,werror=stop,rerror=stop
    ide-cd,bus=ide.3,drive=cd0
    ide-cd,bus=ide.4,drive=cd1
    ide-cd,bus=ide.5,drive=cd2
    isa-fdc
    floppy,drive=floppy
    ");
    insta::assert_snapshot!(devices("pc", Interface::Ide, Interface::Ide), @r"
    ide-hd,bus=ide.0,unit=0,drive=disk,bootindex=1,werror=stop,rerror=stop
    ide-hd,bus=ide.0,unit=1,drive=drive0,werror=stop,rerror=stop
    ide-hd,bus=ide.1,unit=0,drive=drive1,werror=stop,rerror=stop
    ide-cd,bus=ide.1,unit=1,drive=cd0
    ich9-ahci,id=ahci0
    ide-cd,bus=ahci0.0,drive=cd1
    ide-cd,bus=ahci0.1,drive=cd2
    floppy,drive=floppy
    ");
    insta::assert_snapshot!(devices("pc-i440fx-9.2", Interface::Sata, Interface::Virtio), @r"
    ich9-ahci,id=ahci0
    ide-hd,bus=ahci0.0,drive=disk,bootindex=1,werror=stop,rerror=stop
    ide-hd,bus=ahci0.1,drive=drive0,werror=stop,rerror=stop
    ide-hd,bus=ahci0.2,drive=drive1,werror=stop,rerror=stop
    virtio-blk-pci,drive=cd0
    virtio-blk-pci,drive=cd1
    virtio-blk-pci,drive=cd2
    floppy,drive=floppy
    ");
    insta::assert_snapshot!(devices("q35", Interface::VirtioScsi, Interface::VirtioScsi), @r"
    virtio-scsi-pci,id=virtio-scsi
    scsi-hd,bus=virtio-scsi.0,drive=disk,bootindex=1,werror=stop,rerror=stop
    scsi-hd,bus=virtio-scsi.0,drive=drive0,werror=stop,rerror=stop
    scsi-hd,bus=virtio-scsi.0,drive=drive1,werror=stop,rerror=stop
    scsi-cd,bus=virtio-scsi.0,drive=cd0
    scsi-cd,bus=virtio-scsi.0,drive=cd1
    scsi-cd,bus=virtio-scsi.0,drive=cd2
    isa-fdc
    floppy,drive=floppy
    ");
    insta::assert_snapshot!(devices("pc-q35-9.2", Interface::Scsi, Interface::Scsi), @r"
    lsi53c895a,id=lsi
    scsi-hd,bus=lsi.0,drive=disk,bootindex=1,werror=stop,rerror=stop
    scsi-hd,bus=lsi.0,drive=drive0,werror=stop,rerror=stop
    scsi-hd,bus=lsi.0,drive=drive1,werror=stop,rerror=stop
    scsi-cd,bus=lsi.0,drive=cd0
    scsi-cd,bus=lsi.0,drive=cd1
    scsi-cd,bus=lsi.0,drive=cd2
    isa-fdc
    floppy,drive=floppy
    ");
}

#[test]
fn kvm_with_secure_boot_a_tpm_and_the_hosts_own_ways() {
    let config = Config {
        accelerator: Accelerator::Kvm,
        cpus: 3,
        topology: Some(Topology { sockets: 1, cores: 2, threads: 2 }),
        interface: Interface::VirtioScsi,
        cache: Some(Cache::Directsync),
        discard: false,
        drives: vec![Drive { path: "/build/more.qcow2".into(), format: Format::Qcow2, read_only: false }],
        firmware: Firmware::Uefi { code: "/code.fd".into(), vars: "/vars.fd".into(), secure_boot: true },
        tpm: Some(Tpm { version1: false, device: "tpm-crb".to_owned(), state: "/build/tpm".into() }),
        display: Display::Default,
        vga: Some("virtio".to_owned()),
        vnc: Vnc {
            address: std::net::Ipv6Addr::LOCALHOST.into(),
            ports: (5910, 5912),
            password: Some(VncPassword::new("geheim".to_owned())),
        },
        usb: true,
        net_device: "e1000e".to_owned(),
        ..config()
    };
    assert!(!format!("{config:?}{}", lines(&config)).contains("geheim"));
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine q35,smm=on,pflash0=uefi-code,pflash1=uefi-vars
    -accel kvm
    -cpu host
    -smp cpus=3,maxcpus=4,sockets=1,cores=2,threads=2
    -m size=2048M
    -action panic=pause
    -blockdev driver=raw,node-name=uefi-code,read-only=on,file.driver=file,file.filename=/code.fd
    -blockdev driver=raw,node-name=uefi-vars,read-only=off,file.driver=file,file.filename=/vars.fd
    -global driver=cfi.pflash01,property=secure,value=on
    -global ICH9-LPC.disable_s3=1
    -blockdev node-name=disk,driver=qcow2,discard=ignore,detect-zeroes=on,file.discard=ignore,cache.direct=on,file.cache.direct=on,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-scsi-pci,id=virtio-scsi
    -device scsi-hd,bus=virtio-scsi.0,drive=disk,bootindex=1,werror=stop,rerror=stop,write-cache=off
    -blockdev node-name=drive0,driver=qcow2,discard=ignore,detect-zeroes=on,file.discard=ignore,cache.direct=on,file.cache.direct=on,file.driver=file,file.filename=/build/more.qcow2
    -device scsi-hd,bus=virtio-scsi.0,drive=drive0,werror=stop,rerror=stop,write-cache=off
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device qemu-xhci
    -device e1000e,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -vga virtio
    -device usb-tablet
    -device usb-kbd
    -vnc [::1]:10,to=12,key-delay-ms=2,password=on
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    -chardev socket,id=tpm,server=off,path=/run/vb/tpm
    -tpmdev emulator,id=tpm0,chardev=tpm
    -device tpm-crb,tpmdev=tpm0
    ");
}

fn extra(switch: &str, value: &str) -> Extra {
    Extra { switch: switch.to_owned(), value: Some(value.to_owned()).filter(|value| !value.is_empty()) }
}

#[test]
fn what_may_stand_once_is_replaced_and_all_else_added() {
    let config = Config {
        firmware: Firmware::Uefi { code: "/code.fd".into(), vars: "/vars.fd".into(), secure_boot: false },
        floppy: Some("/f".into()),
        extra: vec![
            extra("-m", "4096"),
            extra("--smp", "4"),
            extra("-M", "type=pc,accel=kvm:tcg"),
            extra("-device", "virtio-balloon-pci"),
            extra("-drive", "file=/more.img,format=raw"),
            extra("-vga", "qxl"),
            extra("-boot", "menu=on"),
            extra("-no-fd-bootchk", ""),
        ],
        ..config()
    };
    insta::assert_snapshot!(lines(&config), @r"
    -nodefaults
    -no-user-config
    -name guest=visa-base
    -machine type=pc,accel=kvm:tcg,pflash0=uefi-code,pflash1=uefi-vars
    -cpu max
    -smp 4
    -m 4096
    -action panic=pause
    -blockdev driver=raw,node-name=uefi-code,read-only=on,file.driver=file,file.filename=/code.fd
    -blockdev driver=raw,node-name=uefi-vars,read-only=off,file.driver=file,file.filename=/vars.fd
    -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
    -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
    -blockdev node-name=floppy,driver=raw,read-only=on,file.driver=file,file.filename=/f
    -device floppy,drive=floppy
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device virtio-net-pci,netdev=net0,romfile=
    -device virtio-rng-pci
    -device pvpanic-pci
    -vnc 127.0.0.1:0,to=99,key-delay-ms=2
    -display none
    -chardev socket,id=serial,server=off,path=/run/vb/serial
    -chardev socket,id=qmp,server=off,path=/run/vb/qmp
    -chardev socket,id=firmware,server=off,path=/run/vb/firmware
    -serial chardev:serial
    -device isa-debugcon,iobase=0x402,chardev=firmware
    -mon chardev=qmp,mode=control
    -device virtio-balloon-pci
    -drive file=/more.img,format=raw
    -vga qxl
    -boot menu=on
    -no-fd-bootchk
    ");
    insta::assert_snapshot!(config.replaced().join("\n"), @r"
    `-m 4096` of qemuargs replaces `-m size=2048M`
    `--smp 4` of qemuargs replaces `-smp cpus=2`
    `-M type=pc,accel=kvm:tcg` of qemuargs replaces `-machine q35`
    `-M type=pc,accel=kvm:tcg` of qemuargs takes the place of `-accel tcg,thread=multi`
    `-vga qxl` of qemuargs takes the place of `-device VGA`
    ");
}

#[test]
fn firmware_of_the_users_own() {
    let machine = |firmware| {
        let config = Config { firmware, net_device: "usb-net".to_owned(), ..config() };
        let chosen = ["-machine", "-bios", "node-name=firmware", "usb", "-netdev", "xhci"];
        lines(&config)
            .lines()
            .filter(|line| chosen.iter().any(|part| line.contains(part)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(machine(Firmware::File("/bios.bin".into())), @r"
    -machine q35
    -bios /bios.bin
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device qemu-xhci
    -device usb-net,netdev=net0
    ");
    insta::assert_snapshot!(machine(Firmware::Flash("/flash.fd".into())), @r"
    -machine q35,pflash0=firmware
    -blockdev driver=raw,node-name=firmware,read-only=on,file.driver=file,file.filename=/flash.fd
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
    -device qemu-xhci
    -device usb-net,netdev=net0
    ");
}
