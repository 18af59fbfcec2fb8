//! The task, its result, and their JSON.

use std::path::{Path, PathBuf};

use crate::json::{self, Value};
use crate::Result;

pub type TaskId = String;

/// What the program is asked to do: arguments without argv[0], and names of files in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub args: Vec<String>,
    pub files: Vec<String>,
}

/// What goes back: bytes, and paths in the guest of files to keep. Made by [`Task::result`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    id: TaskId,
    pub(crate) data: Vec<u8>,
    pub(crate) files: Vec<String>,
}

impl Task {
    pub fn result(&self, data: Vec<u8>, files: Vec<String>) -> Result<TaskResult> {
        Ok(TaskResult {
            id: self.id.clone(),
            data,
            files,
        })
    }

    /// Each file's name with its path below `workspace`.
    pub fn get_task_files_path<'a>(&'a self, workspace: &str) -> Vec<(&'a str, PathBuf)> {
        self.files
            .iter()
            .map(|name| (name.as_str(), Path::new(workspace).join(name)))
            .collect()
    }

    /// Reads `{"id": "…", "args": ["…"], "files": ["…"]}`; other members are ignored.
    pub(crate) fn from_json(text: &str) -> std::result::Result<Task, String> {
        let Value::Object(members) = json::parse(text)? else {
            return Err("not a JSON object".into());
        };
        let field = |name: &str| {
            let mut found = members
                .iter()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value);
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                (Some(_), Some(_)) => Err(format!("member \"{name}\" is there twice")),
                (None, _) => Err(format!("member \"{name}\" is missing")),
            }
        };
        Ok(Task {
            id: string(field("id")?).ok_or("\"id\" is not a string")?,
            args: strings(field("args")?).ok_or("\"args\" is not a list of strings")?,
            files: strings(field("files")?).ok_or("\"files\" is not a list of strings")?,
        })
    }
}

fn string(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(string).collect(),
        _ => None,
    }
}

/// The text of task_result.json.
pub(crate) fn answer_json(answer: Result<TaskResult>) -> String {
    match answer {
        Err(error) => format!("{{\"Err\":{}}}", json::quote(&error.to_string())),
        Ok(result) => {
            let data: Vec<String> = result.data.iter().map(u8::to_string).collect();
            let files: Vec<String> = result.files.iter().map(|name| json::quote(name)).collect();
            format!(
                "{{\"Ok\":{{\"id\":{},\"data\":[{}],\"files\":[{}]}}}}",
                json::quote(&result.id),
                data.join(","),
                files.join(",")
            )
        }
    }
}
