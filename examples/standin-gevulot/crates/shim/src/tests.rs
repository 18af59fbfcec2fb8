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

#[test]
fn blake3_is_as_the_reference_says() {
    // From the blake3 package of Python; the input is 0, 1, … 250, 0, 1, …
    for (length, expected) in [
        (
            0,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ),
        (
            1,
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        ),
        (
            63,
            "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b",
        ),
        (
            64,
            "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
        ),
        (
            65,
            "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee",
        ),
        (
            1023,
            "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
        ),
        (
            1024,
            "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        ),
        (
            1025,
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
        ),
        (
            2048,
            "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
        ),
        (
            2049,
            "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
        ),
        (
            3072,
            "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
        ),
        (
            4097,
            "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995",
        ),
        (
            8192,
            "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63",
        ),
        (
            31744,
            "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
        ),
        (
            102400,
            "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
        ),
    ] {
        let data: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let digest = crate::blake3::hash(&data[..]).unwrap();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{length} bytes");
    }
}

#[test]
fn a_nodes_answer_without_a_task_is_an_error() {
    for data in [&[][..], &[2 << 3, 0], &[0xFF; 12], &[1 << 3 | 2, 9, 1]] {
        assert!(crate::node::read_task(data).is_err());
    }
    let task = crate::node::read_task(b"\x0a\x0d\x0a\x02t1\x1a\x02-n\x22\x03a/b").unwrap();
    assert_eq!(
        (task.id, task.args, task.files),
        ("t1".into(), vec!["-n".into()], vec!["a/b".into()])
    );
}
