//! STAND-IN for the Gevulot shim, for both of its protocols. The real one is built for one of them.
//!
//! Where the workspace holds `task.json`, tasks are files, as for shim-executor; else a node is asked over vsock (see
//! `node`). The file is `{"id": …, "args": […], "files": […]}`. The callback's answer goes into
//! `task_result.json` as `{"Ok": {"id": …, "data": [bytes], "files": […]}}` or `{"Err": "message"}`.
//! A program that is deployed must be linked to the real shim.

mod blake3;
mod json;
mod node;
mod task;

use std::fs::{read_to_string, File};
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gevulot_common::WORKSPACE_PATH;
pub use task::{Task, TaskId, TaskResult};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Every image that packs this library holds these bytes: `orchestrator verify` and `inspect` look for them.
#[used]
static MARKER: [u8; 77] =
    *b"GEVULOT-ORCHESTRATOR-STAND-IN: Gevulot shim (task files, or a node by vsock)\0";

const MOUNTS: &str = "/proc/mounts";
const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);
const MOUNT_POLL: Duration = Duration::from_millis(100);

/// Waits up to 30 s for the mount on /workspace, gives `callback` the task found there, or the node's, and writes or
/// submits its result.
///
/// Fails when there is no mount, no readable task, or already a result. An error of `callback` is no failure here:
/// it is the task's result, `{"Err": …}`, or Failed for the node.
pub fn run(callback: impl Fn(Task) -> Result<TaskResult>) -> Result<()> {
    announce();
    wait_for_mount(Path::new(MOUNTS), WORKSPACE_PATH, MOUNT_TIMEOUT)?;
    let workspace = Path::new(WORKSPACE_PATH);
    if workspace.join("task.json").exists() {
        run_in(workspace, callback)
    } else {
        node::run(callback)
    }
}

/// Says on the serial console what this library is. Also keeps MARKER: a linker may drop what nothing reads.
fn announce() {
    let (_nul, text) = std::hint::black_box(&MARKER)
        .split_last()
        .expect("not empty");
    println!("{}", String::from_utf8_lossy(text));
}

fn wait_for_mount(mounts: &Path, target: &str, timeout: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let table = read_to_string(mounts).map_err(|e| format!("{}: {e}", mounts.display()))?;
        if table
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(target))
        {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            return Err(format!(
                "nothing was mounted on {target} within {} s",
                timeout.as_secs()
            )
            .into());
        }
        sleep(MOUNT_POLL);
    }
}

fn run_in(workspace: &Path, callback: impl Fn(Task) -> Result<TaskResult>) -> Result<()> {
    let path = workspace.join("task.json");
    let text = read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let task = Task::from_json(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let answer = task::answer_json(callback(task));
    let path = workspace.join("task_result.json");
    // create_new: a result left by an earlier run must not be taken for, or mixed with, this one.
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    file.write_all(answer.as_bytes())?;
    file.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
