// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's side: the devcoredump class in sysfs (drivers/base/devcoredump.c), and its uevents.

use super::Error;
use rustix::event::{
    poll,
    PollFd,
    PollFlags,
    Timespec, //
};
use rustix::fd::OwnedFd;
use rustix::net::{
    self,
    netlink::{
        SocketAddrNetlink,
        KOBJECT_UEVENT, //
    },
    AddressFamily,
    RecvFlags,
    SocketFlags,
    SocketType, //
};
use std::fs::{
    self,
    File,
    OpenOptions, //
};
use std::io::{
    self,
    Cursor,
    Read,
    Write, //
};
use std::path::{
    Path,
    PathBuf, //
};
use std::time::{
    Duration,
    Instant, //
};

/// Says what driver made a dump; the header is much shorter.
const HEAD: u64 = 4096;

/// `/sys/class/devcoredump`. Each dump is a directory `devcdN`; the kernel never uses a number
/// twice.
pub struct Class {
    path: PathBuf,
}

/// A dump's text.
pub struct Data {
    head: Vec<u8>,
    rest: Box<dyn Read>,
}

impl Class {
    pub fn new(path: &Path) -> Class {
        Class {
            path: path.to_owned(),
        }
    }

    /// Somebody has switched dumps off. The kernel doesn't make any then, until it is booted again.
    pub fn is_disabled(&self) -> bool {
        fs::read(self.path.join("disabled")).is_ok_and(|text| text.starts_with(b"1"))
    }

    /// The dumps that are there, oldest first.
    pub fn devices(&self) -> Result<Vec<String>, Error> {
        let at = || Error::at(self.path.display());
        let mut devices = Vec::new();
        let entries = fs::read_dir(&self.path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::Other(format!(
                "{}: this kernel makes no devcoredumps (CONFIG_DEV_COREDUMP)",
                self.path.display()
            )),
            _ => at()(e),
        })?;
        for entry in entries {
            let name = entry.map_err(at())?.file_name();
            let number = |name: &str| name.strip_prefix("devcd")?.parse::<u64>().ok();
            if let Some((name, number)) = name.to_str().and_then(|n| Some((n, number(n)?))) {
                devices.push((number, name.to_owned()));
            }
        }
        devices.sort();
        Ok(devices.into_iter().map(|(_, name)| name).collect())
    }

    fn data_path(&self, device: &str) -> PathBuf {
        self.path.join(device).join("data")
    }

    /// Opens a dump; `None` when the kernel has freed it.
    pub fn data(&self, device: &str) -> Result<Option<Data>, Error> {
        let path = self.data_path(device);
        let rest = match File::open(&path) {
            Ok(file) => file,
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(Error::at(path.display())(e)),
        };
        match Data::new(Box::new(rest)) {
            Ok(data) => Ok(data),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(Error::at(path.display())(e)),
        }
    }

    /// The name of the device that failed.
    pub fn failing_device(&self, device: &str) -> Option<String> {
        let link = fs::read_link(self.path.join(device).join("failing_device")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// Has the kernel free its copy: it does so when anything is written.
    pub fn free(&self, device: &str) -> Result<(), Error> {
        let path = self.data_path(device);
        let freed = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"0\n"));
        match freed {
            Err(e) if !is_gone(&e) => Err(Error::at(path.display())(e)),
            _ => Ok(()),
        }
    }
}

/// The device went away, before or after its file was opened.
pub fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
        || e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

impl Data {
    /// Reads the head; `None` when there is nothing.
    pub fn new(mut rest: Box<dyn Read>) -> io::Result<Option<Data>> {
        let mut head = Vec::new();
        let length = rest.by_ref().take(HEAD).read_to_end(&mut head)?;
        Ok((length > 0).then_some(Data { head, rest }))
    }

    /// It is a dump of msm's, of a GPU or of a display controller.
    pub fn is_msm(&self) -> bool {
        let mut lines = self.head.split(|&byte| byte == b'\n');
        lines.any(|line| line == b"module: msm")
    }

    /// The whole text.
    pub fn into_read(self) -> impl Read {
        Cursor::new(self.head).chain(self.rest)
    }
}

/// Events of devices that come and go. There are none in containers, nor of directories that only
/// look like sysfs.
pub struct Uevents {
    socket: Option<OwnedFd>,
}

impl Uevents {
    /// Listens from now on, as far as the system lets us.
    pub fn open() -> Uevents {
        let open = || -> rustix::io::Result<OwnedFd> {
            let socket = net::socket_with(
                AddressFamily::NETLINK,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                Some(KOBJECT_UEVENT),
            )?;
            // Group 1 is the kernel's.
            net::bind(&socket, &SocketAddrNetlink::new(0, 1))?;
            Ok(socket)
        };
        Uevents {
            socket: open().ok(),
        }
    }

    /// Waits for a devcoredump to come or go, or until `timeout` is over.
    pub fn wait(&self, timeout: Duration) {
        let Some(socket) = &self.socket else {
            return std::thread::sleep(timeout);
        };
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else {
                return;
            };
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return,
                Ok(_) if self.drain(socket) => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return std::thread::sleep(end.saturating_duration_since(Instant::now())),
            }
        }
    }

    /// Reads all events; whether one was about a devcoredump, or was lost.
    fn drain(&self, socket: &OwnedFd) -> bool {
        let mut event = [0; 8192];
        let mut ours = false;
        loop {
            match net::recv(socket, &mut event, RecvFlags::empty()) {
                Ok((_, length)) => {
                    let mut fields = event[..length].split(|&byte| byte == 0);
                    ours |= fields.any(|field| field == b"SUBSYSTEM=devcoredump");
                }
                Err(rustix::io::Errno::NOBUFS) => ours = true,
                Err(_) => return ours,
            }
        }
    }
}
