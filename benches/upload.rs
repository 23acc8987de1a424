//! `visabuild upload` beside `openstack image create`: one file, one Glance, turn by turn.
//!
//! `cargo bench --bench upload [-- GIB [ROUNDS]]` prints wall time, processor time and peak memory of each, and
//! their ratios. Both clients reach Glance directly; only Keystone is behind the tests' proxy. `scripts/test` has to
//! have run once, because it installs Keystone, Glance and OpenStack's client.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/openstack/mod.rs"]
mod openstack;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use openstack::Cloud;

/// What a process took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
    memory: f64,
}

/// Runs its arguments and prints seconds of wall and processor time and MiB of peak memory on the last line.
const MEASURE: &str = "import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)";

fn measure(python: &Path, command: &[&str], environment: &[(String, String)], folder: &Path) -> Cost {
    let output = Command::new(python)
        .args(["-c", MEASURE])
        .args(command)
        .current_dir(folder)
        .envs(environment.iter().cloned())
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    Cost { wall: numbers[0], cpu: numbers[1], memory: numbers[2] }
}

/// A file without holes whose bytes are not all alike.
fn write_data(path: &Path, gib: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..gib << 10 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<_> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (gib, rounds) = (numbers.first().copied().unwrap_or(4), numbers.get(1).copied().unwrap_or(3));
    let cloud = Cloud::start().await;
    let folder = cloud.folder().to_owned();
    let file = folder.join("data.raw");
    write_data(&file, gib);
    let mut environment = cloud.environment("builder", "visa");
    environment.push(("OS_IMAGE_ENDPOINT_OVERRIDE".into(), format!("http://{}", cloud.glance_address())));
    let python = openstack::program("python");
    let client = openstack::program("openstack");
    let (ours, theirs) = (env!("CARGO_BIN_EXE_visabuild"), client.to_str().unwrap());
    let path = file.to_str().unwrap();
    let upload = [ours, "upload", path, "--name", "ours", "--format", "auto"];
    let create = [theirs, "image", "create", "--disk-format", "raw", "--file", path, "theirs"];
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (name, command, costs) in
            [("visabuild", &upload[..], &mut of_ours), ("openstack", &create[..], &mut of_theirs)]
        {
            let cost = measure(&python, command, &environment, &folder);
            println!(
                "{round}: {name:9}  wall {:6.1} s  cpu {:6.1} s  peak {:6.1} MiB",
                cost.wall, cost.cpu, cost.memory
            );
            costs.push(cost);
            for image in cloud.images().await {
                cloud.delete(image["id"].as_str().unwrap()).await;
            }
        }
    }
    fs::remove_file(&file).unwrap();
    let ratio = |of: fn(&Cost) -> f64| median(&of_ours, of) / median(&of_theirs, of);
    println!(
        "visabuild / openstack, {gib} GiB, medians of {rounds}: wall {:.2}, cpu {:.2}, memory {:.2}",
        ratio(|cost| cost.wall),
        ratio(|cost| cost.cpu),
        ratio(|cost| cost.memory)
    );
}
