//! Stand-in for the C interface of the Gevulot shim: `new_task_result`, `add_file_to_result`, `run` (see shim.h).

use std::ffi::{c_char, CStr, CString, NulError};

/// What `run`'s callback is given; the arrays end with a null pointer.
#[repr(C)]
pub struct Task {
    id: *const c_char,
    args: *const *const c_char,
    files: *const *const c_char,
}

/// What C sees as `void *`.
pub struct TaskResult {
    data: Vec<u8>,
    files: Vec<String>,
}

type Callback = extern "C" fn(*const Task) -> *mut TaskResult;

/// Makes a result with a copy of `len` bytes at `data`, or without data when `data` is null.
///
/// # Safety
/// `data` is null or points to `len` readable bytes.
#[no_mangle]
pub unsafe extern "C" fn new_task_result(data: *mut u8, len: usize) -> *mut TaskResult {
    let data = if data.is_null() {
        Vec::new()
    } else {
        // SAFETY: the caller vouches for `len` bytes at `data`.
        unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
    };
    Box::into_raw(Box::new(TaskResult {
        data,
        files: Vec::new(),
    }))
}

/// Adds a file's path to a result; a null pointer on either side changes nothing.
///
/// # Safety
/// `result` is null or comes from `new_task_result`; `file_name` is null or a C string.
#[no_mangle]
pub unsafe extern "C" fn add_file_to_result(result: *mut TaskResult, file_name: *const c_char) {
    if result.is_null() || file_name.is_null() {
        return;
    }
    // SAFETY: neither is null, and the caller vouches for both.
    let (result, name) = unsafe { (&mut *result, CStr::from_ptr(file_name)) };
    result.files.push(name.to_string_lossy().into_owned());
}

/// Runs the task and returns; aborts when there is no task or the result can't be written.
#[no_mangle]
pub extern "C" fn run(callback: Callback) {
    if let Err(error) = gevulot_shim::run(|task| call(callback, &task)) {
        // C gets no error back from run(), and a program that goes on without a result would look well.
        eprintln!("gevulot shim (stand-in): {error}");
        std::process::abort();
    }
}

fn call(
    callback: Callback,
    task: &gevulot_shim::Task,
) -> gevulot_shim::Result<gevulot_shim::TaskResult> {
    let id = CString::new(task.id.as_str())?;
    let (args, files) = (c_strings(&task.args)?, c_strings(&task.files)?);
    let (args, files) = (pointers(&args), pointers(&files));
    let c_task = Task {
        id: id.as_ptr(),
        args: args.as_ptr(),
        files: files.as_ptr(),
    };
    let result = callback(&c_task);
    if result.is_null() {
        return Err("the callback returned NULL instead of a result".into());
    }
    // SAFETY: not null, and only new_task_result makes such pointers; the callback gave it up.
    let result = unsafe { Box::from_raw(result) };
    task.result(result.data, result.files)
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, NulError> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let ends = std::iter::once(std::ptr::null());
    strings.iter().map(|s| s.as_ptr()).chain(ends).collect()
}
