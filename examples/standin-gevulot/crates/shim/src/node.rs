//! The node's protocol over vsock: service `vm_service.VMService`, GetTask and SubmitResult, as gRPC over HTTP/2.
//!
//! As little of HTTP/2 as calls one after the other need: headers without compression, and of the answer's headers
//! only that they came. A call that failed has no message in its answer.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::path::Path;

use gevulot_common::WORKSPACE_PATH;

use crate::{blake3, Result, Task, TaskResult};

const SERVICE: &str = "/vm_service.VMService/";
const HOST_CID: u32 = 2;
const PORT: u32 = 8080;
const AF_VSOCK: i32 = 40;
const SOCK_STREAM: i32 = 1;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW: i64 = 65535;
const FRAME: usize = 16384;

/// struct sockaddr_vm of linux/vm_sockets.h.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn connect(socket: i32, address: *const Address, length: u32) -> i32;
}

/// Asks the node for the task, gives it to `callback` and submits the answer.
pub(crate) fn run(callback: impl Fn(Task) -> Result<TaskResult>) -> Result<()> {
    let stream = connected()
        .map_err(|e| format!("no {WORKSPACE_PATH}/task.json, and no node on vsock: {e}"))?;
    let mut node = Node::new(stream)?;
    let task = read_task(&node.call("GetTask", &[])?)?;
    let id = task.id.clone();
    let request = match callback(task) {
        Ok(result) => submission(&id, &result)?,
        Err(error) => {
            eprintln!("the task failed: {error}");
            [field(1, id.as_bytes()), vec![3 << 3, 1]].concat()
        }
    };
    node.call("SubmitResult", &request)?;
    Ok(())
}

fn connected() -> std::io::Result<File> {
    let address = Address {
        family: AF_VSOCK as u16,
        reserved: 0,
        port: PORT,
        cid: HOST_CID,
        zero: [0; 4],
    };
    // SAFETY: plain system calls; the descriptor is new and becomes the file's own.
    unsafe {
        let descriptor = socket(AF_VSOCK, SOCK_STREAM, 0);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let file = File::from_raw_fd(descriptor);
        if connect(descriptor, &address, std::mem::size_of::<Address>() as u32) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(file)
    }
}

/// A connection; calls go one after the other.
pub(crate) struct Node<S> {
    stream: S,
    next: u32,
    window: i64,
    stream_window: i64,
    initial: i64,
}

impl<S: Read + Write> Node<S> {
    pub(crate) fn new(mut stream: S) -> Result<Self> {
        stream.write_all(PREFACE)?;
        let mut node = Node {
            stream,
            next: 1,
            window: INITIAL_WINDOW,
            stream_window: INITIAL_WINDOW,
            initial: INITIAL_WINDOW,
        };
        node.send(SETTINGS, 0, 0, &[])?;
        Ok(node)
    }

    /// One unary call: the message of the answer.
    pub(crate) fn call(&mut self, method: &str, message: &[u8]) -> Result<Vec<u8>> {
        let id = self.next;
        self.next += 2;
        self.stream_window = self.initial;
        let path = format!("{SERVICE}{method}");
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path.as_str()),
            (":authority", "node"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // A literal without indexing, name and value plain; both are shorter than 127 bytes.
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, 4, id, &block)?;
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let mut answer = Vec::new();
        let mut sent = 0;
        while sent < body.len() {
            let room = self.window.min(self.stream_window).clamp(0, FRAME as i64) as usize;
            if room == 0 {
                self.receive(id, &mut answer)?;
                continue;
            }
            let end = body.len().min(sent + room);
            self.send(DATA, u8::from(end == body.len()), id, &body[sent..end])?;
            self.window -= (end - sent) as i64;
            self.stream_window -= (end - sent) as i64;
            sent = end;
        }
        while !self.receive(id, &mut answer)? {}
        let length = answer
            .get(1..5)
            .ok_or_else(|| format!("the node refused {method}"))?;
        let length = u32::from_be_bytes(length.try_into()?) as usize;
        if answer[0] != 0 || answer.len() != 5 + length {
            return Err(format!("the node's answer to {method} is not one plain message").into());
        }
        Ok(answer.split_off(5))
    }

    /// Takes one frame; true when it ended the call.
    fn receive(&mut self, id: u32, answer: &mut Vec<u8>) -> Result<bool> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let of = u32::from_be_bytes(head[5..9].try_into()?) & 0x7FFF_FFFF;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & 1 == 0 => {
                for pair in payload.chunks_exact(6) {
                    if pair[..2] == [0, 4] {
                        let initial = i64::from(u32::from_be_bytes(pair[2..].try_into()?));
                        self.stream_window += initial - self.initial;
                        self.initial = initial;
                    }
                }
                self.send(SETTINGS, 1, 0, &[])?;
            }
            PING if flags & 1 == 0 => self.send(PING, 1, 0, &payload)?,
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload[..].try_into()?) & 0x7FFF_FFFF);
                if of == 0 {
                    self.window += more;
                } else if of == id {
                    self.stream_window += more;
                }
            }
            DATA if of == id => {
                if length > 0 {
                    // What was read may be sent again; 0 is the connection's window.
                    for stream in [0, id] {
                        self.send(WINDOW_UPDATE, 0, stream, &(length as u32).to_be_bytes())?;
                    }
                }
                let padding = if flags & 8 == 0 {
                    0
                } else {
                    1 + usize::from(payload[0])
                };
                let start = usize::from(padding > 0);
                answer.extend(
                    payload
                        .get(start..length + start - padding)
                        .unwrap_or_default(),
                );
            }
            RST_STREAM if of == id => return Err("the node broke the call off".into()),
            GOAWAY => return Err("the node closed the connection".into()),
            _ => {}
        }
        Ok(of == id && (kind == DATA || kind == HEADERS) && flags & 1 != 0)
    }

    fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame)?;
        Ok(())
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while value > 0x7F {
        data.push(value as u8 | 0x80);
        value >>= 7;
    }
    data.push(value as u8);
    data
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(value.len()), value.to_vec()].concat()
}

/// TaskResultRequest, with the BLAKE3 of each file as it is now.
fn submission(id: &str, result: &TaskResult) -> Result<Vec<u8>> {
    let mut message = field(2, &result.data);
    for name in &result.files {
        let path = Path::new(WORKSPACE_PATH).join(name);
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let digest = blake3::hash(file)?;
        let entry = [
            field(1, path.to_string_lossy().as_bytes()),
            field(2, &digest),
        ]
        .concat();
        message.extend(field(3, &entry));
    }
    Ok([field(1, id.as_bytes()), field(2, &message)].concat())
}

/// The task in a TaskResponse; its error is one here too.
pub(crate) fn read_task(data: &[u8]) -> Result<Task> {
    let Some((1, message)) = fields(data)?.into_iter().next() else {
        return Err("the node has no task for this program".into());
    };
    let mut task = Task {
        id: String::new(),
        args: Vec::new(),
        files: Vec::new(),
    };
    for (number, value) in fields(&message)? {
        let text = String::from_utf8(value)?;
        match number {
            1 => task.id = text,
            3 => task.args.push(text),
            4 => task.files.push(text),
            _ => {}
        }
    }
    Ok(task)
}

/// The fields of a message that has only texts, messages and small numbers.
fn fields(mut data: &[u8]) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let key = read_varint(&mut data)?;
        let value = read_varint(&mut data)?;
        match key & 7 {
            0 => found.push((key >> 3, Vec::new())),
            2 => {
                let length = usize::try_from(value)?;
                let bytes = data
                    .get(..length)
                    .ok_or("a message of the node ends early")?;
                found.push((key >> 3, bytes.to_vec()));
                data = &data[length..];
            }
            _ => return Err("a message of the node has fields of another kind".into()),
        }
    }
    Ok(found)
}

fn read_varint(data: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = data
            .split_first()
            .ok_or("a message of the node ends early")?;
        *data = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of the node's is too long".into())
}
