use std::cell::Cell;
use std::fs::{create_dir_all, read_to_string, remove_dir_all, write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::json::{parse, quote, Value};
use crate::{run_in, wait_for_mount, Task, MARKER};

/// A directory of its own, removed at the end.
struct Workspace(PathBuf);

impl Workspace {
    fn new(name: &str, task: &str) -> Workspace {
        let path = std::env::temp_dir().join(format!("standin-shim-{}-{name}", std::process::id()));
        create_dir_all(&path).unwrap();
        write(path.join("task.json"), task).unwrap();
        Workspace(path)
    }

    fn result(&self) -> String {
        read_to_string(self.0.join("task_result.json")).unwrap()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

const TASK: &str = r#"{"id": "t1", "args": ["--n", "ü\u00e9\ud83d\ude00"], "files": ["in.bin"], "more": [1.5e3, null]}"#;

#[test]
fn the_callback_gets_the_task_and_its_result_is_written() {
    let workspace = Workspace::new("ok", TASK);
    run_in(&workspace.0, |task| {
        assert_eq!(task.args, ["--n", "üé😀"]);
        let files = task.get_task_files_path("/workspace");
        assert_eq!(files, [("in.bin", PathBuf::from("/workspace/in.bin"))]);
        task.result(vec![0, 255], vec!["/workspace/a \"b\"\n".into()])
    })
    .unwrap();
    let expected = r#"{"Ok":{"id":"t1","data":[0,255],"files":["/workspace/a \"b\"\u000a"]}}"#;
    assert_eq!(workspace.result(), expected);
}

#[test]
fn an_error_of_the_callback_is_the_result() {
    let workspace = Workspace::new("err", TASK);
    run_in(&workspace.0, |_| Err("no \"luck\"".into())).unwrap();
    assert_eq!(workspace.result(), r#"{"Err":"no \"luck\""}"#);
}

#[test]
fn a_stale_result_is_an_error_and_stays() {
    let workspace = Workspace::new("stale", TASK);
    write(workspace.0.join("task_result.json"), "old").unwrap();
    let error = run_in(&workspace.0, |task| task.result(vec![], vec![])).unwrap_err();
    assert!(error.to_string().contains("task_result.json"), "{error}");
    assert_eq!(workspace.result(), "old");
}

#[test]
fn without_a_readable_task_the_callback_is_not_called() {
    for task in [
        "",
        "[]",
        "{}",
        r#"{"id":"a","args":[1],"files":[]}"#,
        r#"{"id":"a","id":"b","args":[],"files":[]}"#,
    ] {
        let workspace = Workspace::new("bad", task);
        let called = Cell::new(false);
        let outcome = run_in(&workspace.0, |task| {
            called.set(true);
            task.result(vec![], vec![])
        });
        assert!(
            outcome.unwrap_err().to_string().contains("task.json"),
            "{task}"
        );
        assert!(!called.get());
    }
    assert!(run_in(Path::new("/nonexistent"), |task| task
        .result(vec![], vec![]))
    .is_err());
}

#[test]
fn the_mount_is_found_by_its_exact_path() {
    let workspace = Workspace::new("mounts", "");
    let table = workspace.0.join("mounts");
    write(&table, "proc /proc proc rw 0 0\n9p /workspace 9p rw 0 0\n").unwrap();
    assert!(wait_for_mount(&table, "/workspace", Duration::ZERO).is_ok());
    write(
        &table,
        "9p /workspace2 9p rw 0 0\n/workspace /mnt none rw 0 0\n",
    )
    .unwrap();
    assert!(wait_for_mount(&table, "/workspace", Duration::ZERO).is_err());
}

#[test]
fn json_that_is_not_json_is_refused() {
    let deep = "[".repeat(100_000);
    for text in [
        "",
        " ",
        "{",
        "[",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "tru",
        "01",
        "1.",
        "1e",
        "-",
        "+1",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\n\"",
        "[] []",
        "[1 2]",
        "\u{feff}[]",
        "// no\n[]",
        &deep,
    ] {
        assert!(parse(text).is_err(), "{:.20}", text);
    }
    for text in [
        "0",
        "-0.5E+2",
        " [ ] ",
        "{ }",
        "[[],{\"a\":[null,true,false]}]",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn every_character_survives_quoting() {
    let all: String = (0..0x3000u32)
        .chain(0x1f600..0x1f610)
        .filter_map(char::from_u32)
        .collect();
    assert_eq!(parse(&quote(&all)), Ok(Value::String(all)));
    let escapes = parse(r#""\"\\\/\b\f\n\r\t""#);
    assert_eq!(escapes, Ok(Value::String("\"\\/\u{8}\u{c}\n\r\t".into())));
}

#[test]
fn a_task_may_be_empty_and_absolute_names_stay() {
    let task = Task::from_json(r#"{"files":["/workspace/x"],"args":[],"id":""}"#).unwrap();
    assert_eq!(
        task.get_task_files_path("/workspace")[0].1,
        Path::new("/workspace/x")
    );
}

#[test]
fn the_marker_is_one_c_string() {
    assert_eq!(
        MARKER.iter().position(|byte| *byte == 0),
        Some(MARKER.len() - 1)
    );
}
