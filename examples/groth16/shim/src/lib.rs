//! The Gevulot shim, called through its C interface (crates/shim-ffi/shim.h in the Gevulot repository).
//!
//! A Rust program could use the crate `gevulot-shim` itself. The C interface is what a program in any language
//! uses, and the shared library may be the one for Devnet or the one for shim-executor without a change here.

use std::ffi::{c_char, c_void, CStr, CString};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the task's files are in the guest.
pub const WORKSPACE: &str = "/workspace";

#[repr(C)]
struct RawTask {
    id: *const c_char,
    args: *const *const c_char,
    files: *const *const c_char,
}

extern "C" {
    fn new_task_result(data: *mut u8, len: usize) -> *mut c_void;
    fn add_file_to_result(result: *mut c_void, file_name: *const c_char);
    fn run(callback: extern "C" fn(*const RawTask) -> *mut c_void);
}

/// One task: arguments without argv[0], and names of files in the workspace.
#[derive(Debug, Clone, Default)]
pub struct Task {
    pub id: String,
    pub args: Vec<String>,
    pub files: Vec<String>,
}

impl Task {
    /// The value after `--name`, or in `--name=value`; the first one counts.
    pub fn option(&self, name: &str) -> Option<&str> {
        let flag = format!("--{name}");
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            match arg.strip_prefix(&flag) {
                Some("") => return args.next().map(String::as_str),
                Some(rest) if rest.starts_with('=') => return Some(&rest[1..]),
                _ => {}
            }
        }
        None
    }

    /// The path in the guest of the task's file called `name`, in whatever folder of the workspace it lies.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let found = self
            .files
            .iter()
            .find(|file| Path::new(file).file_name().is_some_and(|n| n == name));
        found.map(|file| Path::new(WORKSPACE).join(file))
    }
}

/// What goes back to whoever asked: bytes, and paths in the guest of files to keep.
#[derive(Debug, Default)]
pub struct Answer {
    pub data: Vec<u8>,
    pub files: Vec<PathBuf>,
}

pub type Error = Box<dyn std::error::Error>;
type Work = fn(&Task) -> Result<Answer, Error>;

static WORK: OnceLock<Work> = OnceLock::new();
static FAILED: OnceLock<()> = OnceLock::new();

/// Runs the task with `work` and returns the program's exit status.
///
/// The C interface has no way to hand in an error, so a failed task is a result without files whose data say
/// `error: …`, and status 1. The result must go in either way: the node waits for it.
pub fn serve(work: Work) -> std::process::ExitCode {
    WORK.set(work).expect("serve is called once");
    // SAFETY: `callback` has the type that shim.h asks for and lives as long as the program.
    unsafe { run(callback) };
    u8::from(FAILED.get().is_some()).into()
}

extern "C" fn callback(task: *const RawTask) -> *mut c_void {
    // SAFETY: the shim passes a valid task; everything is copied before the callback returns.
    let task = unsafe { copy(&*task) };
    let work = WORK.get().expect("serve set it");
    // A panic must not unwind into C: it would abort before the result is handed in.
    let outcome =
        catch_unwind(|| work(&task)).unwrap_or_else(|_| Err("the program panicked".into()));
    let answer = outcome.unwrap_or_else(|error| {
        let _ = FAILED.set(());
        println!("error: {error}");
        Answer {
            data: format!("error: {error}").into_bytes(),
            files: Vec::new(),
        }
    });
    hand_in(answer)
}

fn hand_in(mut answer: Answer) -> *mut c_void {
    // SAFETY: pointer and length are one vector's; the shim copies the bytes.
    let result = unsafe { new_task_result(answer.data.as_mut_ptr(), answer.data.len()) };
    for file in &answer.files {
        let name = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path has no NUL");
        // SAFETY: the result is the shim's own, the name a C string that the shim copies.
        unsafe { add_file_to_result(result, name.as_ptr()) };
    }
    result
}

/// # Safety
/// `raw` holds a C string and two NULL-terminated arrays of C strings.
unsafe fn copy(raw: &RawTask) -> Task {
    // SAFETY: see above.
    unsafe {
        Task {
            id: text(raw.id),
            args: texts(raw.args),
            files: texts(raw.files),
        }
    }
}

/// # Safety
/// `array` is a NULL-terminated array of C strings.
unsafe fn texts(array: *const *const c_char) -> Vec<String> {
    // SAFETY: nothing is read past the NULL.
    unsafe {
        let items = (0..)
            .map(|i| *array.add(i))
            .take_while(|item| !item.is_null());
        items.map(|item| text(item)).collect()
    }
}

/// # Safety
/// `string` is a C string.
unsafe fn text(string: *const c_char) -> String {
    // SAFETY: see above.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}
