// SPDX-License-Identifier: GPL-2.0-only

//! The context that is looked at, and what it does when an event is its own doing; in this process,
//! or in one that can be killed.

use super::{
    desk::{Commands, Places},
    event::{Event, Kind},
    model::{Model, Submit, FIRST, SECOND},
    PATIENCE,
};
use harness::{Context, Outcome, Result};
use nix::{sys::signal::Signal, unistd::pipe};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};
use uapi::{
    abi::{MSM_BO_NO_SHARE, MSM_BO_WC, MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    Bo, Device, Errno, Submit as Request, SubmitQueue, SyncFile, VmBind, PAGE,
};

/// What a context needs to begin.
#[derive(Debug)]
pub struct Setting {
    /// What the bind will be.
    pub kind: Kind,
    /// Whether its BOs belong to the VM alone.
    pub private: bool,
    /// The desk's dma-buf, and its bytes.
    pub desk: (OwnedFd, u64),
    /// What the bind waits for.
    pub signal: SyncFile,
    /// What [`Event::Queue`] waits for, if that happens.
    pub go: Option<SyncFile>,
}

/// The context: an open file, and what belongs to it.
#[derive(Debug)]
pub struct Client {
    setting: Setting,
    places: Places,
    /// For binds, for submits that don't wait for a fence, and for those that do.
    queues: Vec<SubmitQueue>,
    desk: Option<Bo>,
    bos: Option<[Bo; 2]>,
}

const BINDS: usize = 0;
const NOW: usize = 1;
const LATER: usize = 2;

impl Client {
    /// Opens the file, maps the first BO, and runs a SUBMIT. With that the GPU knows the context's
    /// page tables.
    pub fn new(setting: Setting) -> Result<Self> {
        let device = Device::open_vm_bind().context("opening the GPU")?;
        let places = Places::new(device.va_range().context("VA range")?.start);
        let (dma_buf, size) = (setting.desk.0.as_fd(), setting.desk.1);
        let flags = if setting.private { MSM_BO_NO_SHARE } else { 0 } | MSM_BO_WC;
        let bo = |pages| Bo::with_flags(&device, pages as u64 * PAGE, flags).context("GEM_NEW");
        let desk = Bo::import(&device, dma_buf, size).context("importing the desk")?;
        let bos = [bo(FIRST)?, bo(SECOND)?];
        // Of one priority they would share a scheduler entity: what waits would keep the others
        // waiting.
        let queue = |priority| SubmitQueue::new(&device, priority).context("submitqueue");
        let binds = SubmitQueue::new_vm_bind(&device).context("VM_BIND queue")?;
        VmBind::new(&binds)
            .map(&desk, 0, places.desk(), size)
            .map(&bos[0], 0, places.window(0), bos[0].size())
            .send_and_wait()
            .context("the first bind")?;
        let this = Self {
            setting,
            places,
            queues: vec![binds, queue(0)?, queue(1)?],
            desk: Some(desk),
            bos: Some(bos),
        };
        let begun = this
            .submit(Commands::Begin, None)
            .context("the first SUBMIT")?;
        begun.wait(PATIENCE).context("the first SUBMIT's fence")?;
        Ok(this)
    }

    fn submit(&self, commands: Commands, after: Option<&SyncFile>) -> Result<SyncFile, Errno> {
        let (address, size) = self.places.commands(commands);
        let queue = &self.queues[if after.is_some() { LATER } else { NOW }];
        let request = Request::new(queue).cmd_at(address, size);
        let request = match after {
            Some(fence) => request.after(fence),
            None => request,
        };
        Ok(request.send()?.fence)
    }

    fn first(&self) -> Result<&Bo, Errno> {
        Ok(&self.bos.as_ref().ok_or(Errno::ENOENT)?[0])
    }

    fn bind(&self, waits: bool) -> Result<SyncFile, Errno> {
        let (at, pages, _) = Model::change(self.setting.kind);
        let (iova, range) = (self.places.window(at), pages as u64 * PAGE);
        let request = VmBind::new(&self.queues[BINDS]);
        let request = if waits {
            request.after(&self.setting.signal)
        } else {
            request
        };
        let request = match (self.setting.kind, &self.bos) {
            (Kind::Unmap | Kind::UnmapPart, _) => request.unmap(iova, range),
            (Kind::NullOver, _) => request.map_null(iova, range),
            (_, Some([_, second])) => request.map(second, 0, iova, range),
            (_, None) => return Err(Errno::ENOENT),
        };
        request.send()
    }

    /// Does what an event asks of the context; returns the fence or the dma-buf that comes of it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn perform(&mut self, event: Event) -> Result<Option<OwnedFd>, Errno> {
        let fence = |sent: Result<SyncFile, Errno>| Ok(Some(sent?.into()));
        match event {
            Event::Bind => fence(self.bind(true)),
            Event::BindNow => fence(self.bind(false)),
            Event::Run => fence(self.submit(Commands::Of(Submit::Run), None)),
            Event::Queue => {
                fence(self.submit(Commands::Of(Submit::Queue), self.setting.go.as_ref()))
            }
            Event::BringBack => {
                if let Ok(first) = self.first() {
                    first.madvise(MSM_MADV_WILLNEED)?;
                }
                fence(self.submit(Commands::Of(Submit::Back), None))
            }
            Event::Hang => fence(self.submit(Commands::Hang, None)),
            Event::Fault => fence(self.submit(Commands::Fault, None)),
            Event::Other => Ok(Some(self.first()?.export()?)),
            Event::Purge => {
                self.first()?.madvise(MSM_MADV_DONTNEED)?;
                Ok(None)
            }
            Event::CloseHandle => {
                self.bos = None;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It is the file's closing that closes them.
        for bo in self
            .bos
            .take()
            .into_iter()
            .flatten()
            .chain(self.desk.take())
        {
            bo.leave_open();
        }
        self.queues.drain(..).for_each(SubmitQueue::leave_open);
    }
}

/// A context in a process of its own.
#[derive(Debug)]
pub struct Process {
    process: harness::Process,
    requests: File,
    answers: File,
}

/// Request: nothing to do but to close what was handed over.
const TAKEN: u8 = u8::MAX;

impl Process {
    /// Opens the context there.
    pub fn new(setting: Setting) -> Result<Self> {
        let ((requested, request), (answered, answer)) = (pipe()?, pipe()?);
        let mut ours = Some((request, answered));
        let process = harness::Process::fork(|| {
            drop(ours.take());
            let _ = serve(setting, &mut requested.into(), &mut answer.into());
            1
        })?;
        let (request, answered) = ours.context("this process's ends")?;
        let mut this = Self {
            process,
            requests: request.into(),
            answers: answered.into(),
        };
        this.answer().context("the other process's context")?;
        Ok(this)
    }

    /// As [`Client::perform`].
    pub fn perform(&mut self, event: Event) -> Result<Option<OwnedFd>, Errno> {
        self.requests
            .write_all(&[event as u8])
            .map_err(|_| Errno::EPIPE)?;
        self.answer()
    }

    /// An error number or 0, and a descriptor of that process's or -1.
    fn answer(&mut self) -> Result<Option<OwnedFd>, Errno> {
        let mut answer = [0u8; 8];
        self.answers
            .read_exact(&mut answer)
            .map_err(|_| Errno::EOWNERDEAD)?;
        let [errno, fd] = [&answer[..4], &answer[4..]]
            .map(|half| i32::from_ne_bytes(half.try_into().unwrap_or_default()));
        if errno != 0 {
            return Err(Errno::from_raw(errno));
        }
        if fd < 0 {
            return Ok(None);
        }
        let taken = self.take(fd)?;
        self.requests
            .write_all(&[TAKEN])
            .map_err(|_| Errno::EOWNERDEAD)?;
        let mut answer = [0u8; 8];
        self.answers
            .read_exact(&mut answer)
            .map_err(|_| Errno::EOWNERDEAD)?;
        Ok(Some(taken))
    }

    fn take(&self, fd: i32) -> Result<OwnedFd, Errno> {
        // SAFETY: takes no pointers.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.process.pid().as_raw(), 0) };
        let pidfd = Errno::result(pidfd)? as i32;
        // SAFETY: the kernel just installed this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // SAFETY: takes no pointers.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
        let taken = Errno::result(taken)? as i32;
        // SAFETY: as above.
        Ok(unsafe { OwnedFd::from_raw_fd(taken) })
    }
}

/// Kills the process, and waits until it is gone.
impl Drop for Process {
    fn drop(&mut self) {
        // Whatever comes next is to find its file closed.
        let killed = self.process.signal(Signal::SIGKILL);
        let ended = killed.and_then(|()| self.process.end(harness::Process::LONG));
        ended.expect("a process that is killed ends");
    }
}

/// The process's loop.
fn serve(setting: Setting, requests: &mut File, answers: &mut File) -> Outcome {
    let mut reply = |errno: i32, fd: i32| {
        let bytes = [errno.to_ne_bytes(), fd.to_ne_bytes()].concat();
        answers.write_all(&bytes).context("answering")
    };
    let mut client = match Client::new(setting) {
        Ok(client) => client,
        Err(e) => {
            eprintln!("orders: {e:#}");
            return reply(Errno::EIO as i32, -1);
        }
    };
    reply(0, -1)?;
    let mut handed_over: Option<OwnedFd>;
    loop {
        let mut request = [0];
        requests.read_exact(&mut request).context("a request")?;
        handed_over = None;
        let event = Event::ALL
            .into_iter()
            .find(|event| *event as u8 == request[0]);
        match event.map_or(Ok(None), |event| client.perform(event)) {
            Ok(fd) => {
                let number = fd.as_ref().map_or(-1, |fd| fd.as_fd().as_raw_fd());
                handed_over = fd;
                reply(0, number)?;
            }
            Err(errno) => reply(errno as i32, -1)?,
        }
        let _ = &handed_over;
    }
}
