//! Stand-in: the one name of Gevulot's common crate that a program packed for it needs.

/// Where the node (or shim-executor) mounts the task's files in the guest.
pub const WORKSPACE_PATH: &str = "/workspace";
