//! A Gevulot program: takes tasks through the shim's C interface and answers each with its arguments joined.

use std::ffi::{c_char, c_void, CStr};

/// The shim's task: C strings; `args` and `files` end with a null pointer.
#[repr(C)]
struct Task {
    id: *const c_char,
    args: *const *const c_char,
    files: *const *const c_char,
}

extern "C" {
    fn new_task_result(data: *const u8, len: usize) -> *mut c_void;
    fn run(callback: extern "C" fn(*const Task) -> *mut c_void);
}

/// The strings of a null-terminated array.
///
/// # Safety
/// `list` is null or points to C strings followed by a null pointer, as the shim promises.
unsafe fn strings(mut list: *const *const c_char) -> Vec<String> {
    let mut found = Vec::new();
    while !list.is_null() && !(*list).is_null() {
        found.push(CStr::from_ptr(*list).to_string_lossy().into_owned());
        list = list.add(1);
    }
    found
}

extern "C" fn on_task(task: *const Task) -> *mut c_void {
    // SAFETY: the shim passes a valid task that outlives this call, and copies the result's bytes.
    unsafe {
        let id = CStr::from_ptr((*task).id).to_string_lossy().into_owned();
        let (args, files) = (strings((*task).args), strings((*task).files));
        println!("task {id}: {} arguments, {} files", args.len(), files.len());
        let answer = args.join(" ");
        new_task_result(answer.as_ptr(), answer.len())
    }
}

fn main() {
    // SAFETY: `on_task` has the signature that the shim expects and never returns null.
    unsafe { run(on_task) }
}
