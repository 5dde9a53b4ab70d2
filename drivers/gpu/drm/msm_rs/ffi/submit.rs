// SPDX-License-Identifier: GPL-2.0-only

//! A SUBMIT request, and `struct msm_gem_submit`, which C runs.

use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        null_mut,
        NonNull, //
    },
    sync::atomic::{
        AtomicU32,
        Ordering, //
    },
};

use kernel::{
    prelude::*,
    sync::aref::ARef,
    transmute::FromBytes,
    types::Opaque,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

use super::{
    bindings,
    bo::Bo,
    caller::{
        Caller,
        Named,
        OutFences, //
    },
    fences::SyncobjArray,
    module::InUse,
    queue::{
        Queue,
        QueueKind,
        QueueLocked, //
    },
    vm::Managed, //
};
use crate::{
    gpuvm_rs::{
        fence::Fence,
        gem::ObjLocked,
        lru::LruGuard,
        vm::VmBo, //
    },
    pure::submit::{
        self,
        BoFlags,
        Cmd,
        Place,
        RawCmd,
        RawReloc, //
    },
};

const _: () = {
    assert!(submit::CMD_BUF == bindings::MSM_SUBMIT_CMD_BUF);
    assert!(submit::CMD_IB_TARGET_BUF == bindings::MSM_SUBMIT_CMD_IB_TARGET_BUF);
    assert!(submit::CMD_CTX_RESTORE_BUF == bindings::MSM_SUBMIT_CMD_CTX_RESTORE_BUF);
    assert!(submit::BO_READ == bindings::MSM_SUBMIT_BO_READ);
    assert!(submit::BO_WRITE == bindings::MSM_SUBMIT_BO_WRITE);
    assert!(submit::BO_DUMP == bindings::MSM_SUBMIT_BO_DUMP);
    assert!(submit::BO_NO_IMPLICIT == bindings::MSM_SUBMIT_BO_NO_IMPLICIT);
};

/// All flags of a request that are known.
const FLAGS: u32 = bindings::MSM_SUBMIT_NO_IMPLICIT
    | bindings::MSM_SUBMIT_FENCE_FD_IN
    | bindings::MSM_SUBMIT_FENCE_FD_OUT
    | bindings::MSM_SUBMIT_SUDO
    | bindings::MSM_SUBMIT_SYNCOBJ_IN
    | bindings::MSM_SUBMIT_SYNCOBJ_OUT
    | bindings::MSM_SUBMIT_FENCE_SN_IN;

/// The bits of a request's flags that name a pipe, see `MSM_PIPE_ID()`.
const PIPE: u32 = 0xffff;

// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_bo {}
// SAFETY: Integers, and a union of two of one size, without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_cmd {}
// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_reloc {}

/// Calls `f` with each of the `nr` elements of an array in userspace, until one returns an error.
/// Many are read at a time.
///
/// # Errors
///
/// `EFAULT`.
fn read_elements<T: FromBytes>(array: u64, nr: u32, mut f: impl FnMut(u32, T) -> Result) -> Result {
    const CHUNK: usize = 8;

    let mut i = 0;
    while nr - i >= CHUNK as u32 {
        let chunk: [T; CHUNK] = read_element(array, i / CHUNK as u32)?;
        for element in chunk {
            f(i, element)?;
            i += 1;
        }
    }
    while i < nr {
        f(i, read_element(array, i)?)?;
        i += 1;
    }
    Ok(())
}

/// Reads element `i` of an array in userspace.
fn read_element<T: FromBytes>(array: u64, i: u32) -> Result<T> {
    let addr = array
        .checked_add(u64::from(i) * size_of::<T>() as u64)
        .ok_or(EFAULT)?;
    UserSlice::new(UserPtr::from_addr(addr as usize), size_of::<T>())
        .reader()
        .read::<T>()
}

/// A SUBMIT request.
pub(crate) struct SubmitRequest<'a> {
    caller: Caller<'a>,
    args: &'a mut bindings::drm_msm_gem_submit,
}

impl<'a> Deref for SubmitRequest<'a> {
    type Target = Caller<'a>;

    fn deref(&self) -> &Caller<'a> {
        &self.caller
    }
}

impl<'a> SubmitRequest<'a> {
    /// Checks what doesn't depend on tables and commands.
    ///
    /// # Errors
    ///
    /// See [`Caller::new`]; `EINVAL` for unknown flags, another pipe, or SUDO without the right to
    /// it.
    ///
    /// # Safety
    ///
    /// The arguments are those of an ioctl in progress, whose argument is a `drm_msm_gem_submit`.
    pub(crate) unsafe fn new(
        dev: *mut bindings::drm_device,
        data: *mut core::ffi::c_void,
        file: *mut bindings::drm_file,
    ) -> Result<Self> {
        // SAFETY: An ioctl in progress, by the caller's promise.
        let caller = unsafe { Caller::new(dev, file) }?;
        // SAFETY: Its argument, which is nobody else's.
        let args = unsafe { &mut *data.cast::<bindings::drm_msm_gem_submit>() };
        if args.pad != 0 {
            return Err(caller.invalid(fmt!("pad isn't zero")));
        }
        if args.flags & PIPE != bindings::MSM_PIPE_3D0 {
            return Err(caller.invalid(fmt!("invalid pipe")));
        }
        if args.flags & !PIPE & !FLAGS != 0 {
            return Err(caller.invalid(fmt!("invalid flags: {:x}", args.flags)));
        }
        // SAFETY: Looks at the kernel's configuration and the task's capabilities.
        let may_sudo = || unsafe { bindings::msm_rs_may_sudo() };
        if args.flags & bindings::MSM_SUBMIT_SUDO != 0 && !may_sudo() {
            return Err(caller.invalid(fmt!("SUDO isn't allowed")));
        }
        Ok(Self { caller, args })
    }

    fn has(&self, flag: u32) -> bool {
        self.args.flags & flag != 0
    }

    /// The queue that the request is for.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL`.
    pub(crate) fn queue(&self) -> Result<Queue> {
        self.caller.queue(self.args.queueid, QueueKind::Gpu)
    }

    /// How many entries the BO table has.
    pub(crate) fn nr_bos(&self) -> u32 {
        self.args.nr_bos
    }

    /// How many command streams there are.
    pub(crate) fn nr_cmds(&self) -> u32 {
        self.args.nr_cmds
    }

    /// Reads command stream `i`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn cmd(&self, i: u32) -> Result<RawCmd> {
        let cmd: bindings::drm_msm_gem_submit_cmd = read_element(self.args.cmds, i)?;
        Ok(RawCmd {
            kind: cmd.type_,
            index: cmd.submit_idx,
            offset: cmd.submit_offset,
            size: cmd.size,
            nr_relocs: cmd.nr_relocs,
            // SAFETY: Both variants are the same integer.
            address: unsafe { cmd.__bindgen_anon_1.iova },
        })
    }

    /// Reads relocation `i` of those at `address`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn reloc(&self, address: u64, i: u32) -> Result<RawReloc> {
        let reloc: bindings::drm_msm_gem_submit_reloc = read_element(address, i)?;
        Ok(RawReloc {
            submit_offset: reloc.submit_offset,
            or: reloc.or,
            shift: reloc.shift,
            index: reloc.reloc_idx,
            offset: reloc.reloc_offset,
        })
    }

    /// Whether this GPU's userspace may ask for relocations.
    pub(crate) fn allows_relocs(&self) -> bool {
        // SAFETY: The GPU is alive, by `Caller`'s invariant; the field never changes.
        unsafe { (*self.gpu()).allow_relocs }
    }

    /// Whether the submit waits for the fences of its BOs.
    pub(crate) fn implicit_sync(&self) -> bool {
        !self.has(bindings::MSM_SUBMIT_NO_IMPLICIT)
    }

    /// Lets `submit` wait for what the request names, and prepares what gets its fence.
    ///
    /// # Errors
    ///
    /// See [`Caller::sync`].
    pub(crate) fn sync(&self, submit: &mut Submit) -> Result<OutFences> {
        let args = &self.args;
        let array = |flag, addr, nr| {
            if self.has(flag) {
                SyncobjArray {
                    addr,
                    nr,
                    stride: args.syncobj_stride,
                }
            } else {
                SyncobjArray::default()
            }
        };
        let named = Named {
            in_fence: self
                .has(bindings::MSM_SUBMIT_FENCE_FD_IN)
                .then_some(args.fence_fd),
            out_fence: self.has(bindings::MSM_SUBMIT_FENCE_FD_OUT),
            in_syncobjs: array(
                bindings::MSM_SUBMIT_SYNCOBJ_IN,
                args.in_syncobjs,
                args.nr_in_syncobjs,
            ),
            out_syncobjs: array(
                bindings::MSM_SUBMIT_SYNCOBJ_OUT,
                args.out_syncobjs,
                args.nr_out_syncobjs,
            ),
        };
        // SAFETY: The submit isn't armed.
        unsafe { self.caller.sync(&named, submit.job()) }
    }

    /// Tells of the submit's fence. Its number, and the descriptor of its file, go to userspace.
    pub(crate) fn tell(&mut self, out_fences: OutFences, fence: ARef<Fence>, number: u32) {
        self.args.fence = number;
        if let Some(fd) = out_fences.tell(fence) {
            self.args.fence_fd = fd;
        }
    }

    /// Locks the device's LRUs.
    pub(crate) fn lock_lru(&self) -> LruGuard<'_> {
        // SAFETY: The device is alive, by `Caller`'s invariant.
        unsafe { LruGuard::new(self.dev()) }
    }
}

/// A BO that a submit lists, where C keeps it.
///
/// # Invariants
///
/// A reference to the object, which is a [`Bo`], is owned, and one to the vm_bo, unless that is
/// NULL: then the BO wasn't placed yet. The flags are [`BoFlags`]. It is looked at by the thread
/// that makes the submit, and no more once that is pushed.
#[repr(transparent)]
pub(crate) struct Entry(Opaque<RawEntry>);

impl Entry {
    /// The BO.
    pub(crate) fn bo(&self) -> &Bo {
        // SAFETY: The object is what there is, by the type invariant.
        let obj = unsafe { self.get().__bindgen_anon_1.obj };
        // SAFETY: A BO of which the entry owns a reference, by the type invariant.
        unsafe { Bo::from_raw(obj) }
    }

    fn get(&self) -> &RawEntry {
        // SAFETY: Nobody else looks at it, by the type invariant. What is changed isn't while it is
        // borrowed.
        unsafe { &*self.0.get() }
    }

    /// What the GPU does with it.
    pub(crate) fn flags(&self) -> BoFlags {
        // SAFETY: They are such flags, by the type invariant.
        unsafe { BoFlags::new(self.get().flags).unwrap_unchecked() }
    }

    /// Where it is, once it is placed.
    pub(crate) fn iova(&self) -> u64 {
        self.get().iova
    }

    /// The BO has its pages, and a place at `iova`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for the vm_bo of another object, or if the BO was placed before (a bug).
    pub(crate) fn place(&self, vm_bo: VmBo<'_, Managed>, iova: u64) -> Result {
        let is_its = vm_bo.obj().as_raw() == self.bo().gem().as_raw();
        // SAFETY: Nobody else looks at it, by the type invariant, and no reference is kept.
        let entry = unsafe { &mut *self.0.get() };
        if !is_its || !entry.vm_bo.is_null() {
            return Err(EINVAL);
        }
        // INVARIANT: A reference to the vm_bo of the entry's object.
        entry.vm_bo = vm_bo.into_raw();
        entry.iova = iova;
        Ok(())
    }

    /// Undoes [`Self::place`], if it was done, as far as the submit is concerned.
    pub(crate) fn displace(&self, obj: &ObjLocked<'_>) {
        // SAFETY: Nobody else looks at it, by the type invariant.
        let vm_bo = unsafe { core::mem::replace(&mut (*self.0.get()).vm_bo, null_mut()) };
        // SAFETY: `place()` put the reference there, and it was taken out.
        drop(unsafe { VmBo::<Managed>::from_raw(vm_bo, obj) });
    }
}

/// A `struct msm_gem_submit` that isn't armed. Dropping it gives back what was put in so far.
///
/// # Invariants
///
/// One reference is owned, and nobody else has one. Of the BOs, `nr_bos` are as [`Entry`] says.
pub(crate) struct Submit(NonNull<bindings::msm_gem_submit>);

impl Submit {
    /// A submit to `queue`, with room for the request's BOs and commands, and none in it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also for more BOs and commands than fit one allocation; `ENOENT` for a queue
    /// without a scheduler.
    pub(crate) fn new(req: &SubmitRequest<'_>, queue: &Queue) -> Result<Self> {
        static IDENT: AtomicU32 = AtomicU32::new(0);

        let (nr_bos, nr_cmds) = (req.args.nr_bos, req.args.nr_cmds);
        // SAFETY: The queue is alive, by our reference. On failure nothing is left.
        let raw =
            unsafe { bindings::msm_rs_submit_alloc(nr_bos, nr_cmds, queue.raw(), req.client_id()) };
        let raw = NonNull::new(kernel::error::from_err_ptr(raw)?).ok_or(ENOMEM)?;
        // INVARIANT: It was made with one reference.
        let this = Self(raw);
        // SAFETY: As above; the number never changes.
        let ring_nr = unsafe { (*queue.raw()).ring_nr };
        // SAFETY: The GPU is alive, by `Caller`'s invariant; its rings never change.
        let ring = unsafe { (*req.gpu()).rb[ring_nr as usize] };
        {
            // SAFETY: Ours alone. What it keeps a pointer to lives as long as the queue, of which
            // it gets a reference.
            let submit = unsafe { &mut *raw.as_ptr() };
            submit.queue = queue.clone().into_raw();
            submit.dev = req.dev();
            submit.gpu = req.gpu();
            submit.vm = req.any_vm().as_raw();
            submit.ring = ring;
            submit.ident = IDENT.fetch_add(1, Ordering::Relaxed);
            submit.set_in_rb(req.has(bindings::MSM_SUBMIT_SUDO));
        }
        // What it waits for may signal long after the file was closed.
        InUse::new().leave();
        // SAFETY: Alive, and filled in as far as the trace looks.
        unsafe { bindings::msm_rs_trace_submit(raw.as_ptr(), nr_bos, nr_cmds) };
        Ok(this)
    }

    fn raw(&self) -> *mut bindings::msm_gem_submit {
        self.0.as_ptr()
    }

    /// Reads the request's BO table and looks up the BOs. For a submit that lists none yet.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `EINVAL` for flags that make no sense or an unknown handle.
    pub(crate) fn list_bos(&mut self, req: &SubmitRequest<'_>) -> Result {
        let nr = req.nr_bos();
        if nr == 0 {
            return Ok(());
        }
        let submit = self.raw();
        // SAFETY: Ours, by the type invariant.
        let bos = unsafe { &raw mut (*submit).bos }.cast::<RawEntry>();
        // SAFETY: `msm_rs_submit_alloc()` made room for what the request has.
        let slot = |i: u32| unsafe { bos.add(i as usize) };
        read_elements(
            req.args.bos,
            nr,
            |i, bo: bindings::drm_msm_gem_submit_bo| {
                let flags = BoFlags::new(bo.flags)
                    .ok_or_else(|| req.invalid(fmt!("BO {i}: invalid flags: {:x}", bo.flags)))?;
                // SAFETY: Ours alone; zeroed by `msm_rs_submit_alloc()`.
                let entry = unsafe { &mut *slot(i) };
                entry.flags = flags.bits();
                entry.__bindgen_anon_1.handle = bo.handle;
                Ok(())
            },
        )?;
        let handles = req.handles();
        for i in 0..nr {
            // SAFETY: Ours alone, and filled in above.
            let entry = unsafe { &mut *slot(i) };
            // SAFETY: It is the handle so far.
            let handle = unsafe { entry.__bindgen_anon_1.handle };
            let Some(bo) = handles.find(handle) else {
                drop(handles);
                return Err(req.invalid(fmt!("BO {i}: invalid handle {handle}")));
            };
            // INVARIANT: The entry owns the reference, and its flags were checked.
            entry.__bindgen_anon_1.obj = ARef::into_raw(bo).as_ptr().cast();
            // SAFETY: Ours alone.
            unsafe { (*submit).nr_bos = i + 1 };
        }
        Ok(())
    }

    /// The BOs that it lists.
    pub(crate) fn table(&self) -> &[Entry] {
        // SAFETY: The type invariant.
        unsafe { table(self.raw()) }
    }

    /// The scheduler's part.
    fn job(&self) -> *mut bindings::drm_sched_job {
        // SAFETY: Ours, by the type invariant.
        unsafe { &raw mut (*self.raw()).base }
    }

    /// Lets the submit wait for those that write `obj`, or, if it `writes` itself, for all that use
    /// it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_implicit_dependencies(&self, obj: &ObjLocked<'_>, writes: bool) -> Result {
        // SAFETY: Ours, and not armed; `obj` says that the object is locked.
        kernel::error::to_result(unsafe {
            bindings::drm_sched_job_add_implicit_dependencies(self.job(), obj.as_raw(), writes)
        })
    }

    /// Reserves the number by which userspace knows the fence: the one that the request names, or
    /// the next.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; `EINVAL` for a named number that is in use, zero, or no positive `int`.
    pub(crate) fn reserve_fence_id(
        &self,
        req: &SubmitRequest<'_>,
        _queue: &QueueLocked<'_>,
    ) -> Result {
        let wanted = if req.has(bindings::MSM_SUBMIT_FENCE_SN_IN) {
            match i32::try_from(req.args.fence) {
                Ok(id) if id > 0 => id,
                _ => return Err(req.invalid(fmt!("invalid in-fence-sn"))),
            }
        } else {
            0
        };
        // SAFETY: Ours, and not armed.
        let id = unsafe { bindings::msm_rs_fence_id_reserve(self.raw(), wanted) };
        if id < 0 {
            return Err(Error::from_errno(id));
        }
        // SAFETY: Ours alone.
        unsafe { (*self.raw()).fence_id = id };
        Ok(())
    }

    /// Adds commands. There is room for as many as the request has. Those in a BO of the table have
    /// no address before [`Self::place_cmds`].
    pub(crate) fn add_cmd(&mut self, cmd: &Cmd) {
        let (iova, index, offset) = match cmd.place {
            Place::Iova(iova) => (iova, 0, 0),
            Place::Table { index, offset, .. } => (0, index, offset),
        };
        // SAFETY: Ours alone.
        let submit = unsafe { &mut *self.raw() };
        // SAFETY: `msm_rs_submit_alloc()` made room for what the request has, and nobody adds more.
        let to = unsafe { submit.cmd.add(submit.nr_cmds as usize) };
        // SAFETY: As above. It isn't a part of the structure that `submit` borrows.
        let to = unsafe { &mut *to };
        to.type_ = cmd.kind;
        to.size = cmd.size / 4;
        to.iova = iova;
        to.offset = offset / 4;
        to.idx = index;
        submit.nr_cmds += 1;
    }

    /// Gives the commands their addresses. They are all in BOs of the table, which are placed.
    pub(crate) fn place_cmds(&mut self) {
        // SAFETY: Ours, by the type invariant.
        let nr = unsafe { (*self.raw()).nr_cmds };
        // SAFETY: As above.
        let cmds = unsafe { (*self.raw()).cmd };
        // SAFETY: Ours alone; there are as many as were added.
        let cmds = unsafe { core::slice::from_raw_parts_mut(cmds, nr as usize) };
        for cmd in cmds {
            if let Some(entry) = self.table().get(cmd.idx as usize) {
                cmd.iova = entry.iova().wrapping_add(u64::from(cmd.offset) * 4);
            }
        }
    }

    /// Writes the submit into the debugfs file `rd`, if somebody reads it. VM and BOs are locked.
    pub(crate) fn dump(&self) {
        // SAFETY: Filled in.
        unsafe { bindings::msm_rs_rd_dump(self.raw()) };
    }

    /// Starts the submit's fences: the point of no return.
    pub(crate) fn arm(self, _queue: &QueueLocked<'_>) -> ArmedSubmit {
        let submit = ManuallyDrop::new(self).0;
        // SAFETY: Initialised, with a number, and not armed yet; the queue's lock keeps the order.
        unsafe { bindings::msm_rs_submit_arm(submit.as_ptr()) };
        ArmedSubmit(submit)
    }
}

impl Drop for Submit {
    fn drop(&mut self) {
        for entry in self.table() {
            // SAFETY: The entry owns the reference. It isn't looked at any more.
            unsafe { bindings::drm_gem_object_put(entry.bo().gem().as_raw()) };
        }
        // SAFETY: `self` owns a reference.
        unsafe { bindings::msm_gem_submit_put(self.raw()) };
    }
}

/// A submit whose fences have started. It gets pushed, come what may.
///
/// # Invariants
///
/// As [`Submit`]; and all BOs are placed and pinned.
pub(crate) struct ArmedSubmit(NonNull<bindings::msm_gem_submit>);

impl ArmedSubmit {
    /// The BOs that it lists.
    pub(crate) fn table(&self) -> &[Entry] {
        // SAFETY: The type invariant.
        unsafe { table(self.0.as_ptr()) }
    }

    /// The fence that says that the GPU is done.
    pub(crate) fn finished(&self) -> ARef<Fence> {
        // SAFETY: Ours until it is pushed, by dropping `self`.
        let fence = unsafe { (*self.0.as_ptr()).user_fence };
        // SAFETY: Armed, so that there is one, to which the submit has a reference.
        unsafe { Fence::from_raw(fence) }.into()
    }

    /// Hands the submit to the scheduler. Returns the number of its fence.
    pub(crate) fn push(self, _queue: &QueueLocked<'_>) -> u32 {
        let submit = self.0.as_ptr();
        // SAFETY: Our reference keeps the submit until `self` is dropped, where it is pushed.
        let id = unsafe { (*submit).fence_id } as u32;
        // SAFETY: As above.
        let queue = unsafe { (*submit).queue };
        // SAFETY: The submit has a reference to it, and it is locked.
        unsafe { (*queue).last_fence = id };
        id
    }
}

impl Drop for ArmedSubmit {
    fn drop(&mut self) {
        // SAFETY: Ours, by the type invariant.
        let job = unsafe { &raw mut (*self.0.as_ptr()).base };
        // SAFETY: Armed, and pushed once: here. Our reference is the scheduler's from now on, and
        // what is listed the submit's own.
        unsafe { bindings::drm_sched_entity_push_job(job) };
    }
}

/// What C keeps of a BO that a submit lists.
type RawEntry = bindings::msm_gem_submit__bindgen_ty_2;

/// The BOs that `submit` lists.
///
/// # Safety
///
/// It is alive for `'a`, and as [`Submit`] promises.
unsafe fn table<'a>(submit: *mut bindings::msm_gem_submit) -> &'a [Entry] {
    // SAFETY: Alive, by the caller's promise.
    let nr = unsafe { (*submit).nr_bos };
    // SAFETY: As above.
    let bos = unsafe { &raw const (*submit).bos };
    // SAFETY: So many are as the caller promises; an `Entry` is transparent.
    unsafe { core::slice::from_raw_parts(bos.cast::<Entry>(), nr as usize) }
}

/// The GPU is done with `submit`, or it never got to run: gives back the BOs of its table.
///
/// # Safety
///
/// Called once, for a submit that was filled in.
pub(crate) unsafe fn retire(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: Filled in, by the caller's promise, and alive. Nobody else looks at the table any
    // more.
    for entry in unsafe { table(submit) } {
        let obj = entry.bo().gem().as_raw();
        // SAFETY: The entry owns a reference.
        unsafe { bindings::msm_gem_lock(obj) };
        // SAFETY: The reference that the entry owns. The object's lock guards the vm_bo's lists.
        unsafe { bindings::drm_gpuvm_bo_put(entry.get().vm_bo) };
        // SAFETY: Locked above.
        unsafe { bindings::msm_gem_unlock(obj) };
        // SAFETY: The reference that the entry owns, which isn't looked at any more.
        unsafe { bindings::drm_gem_object_put(obj) };
    }
}

/// The last reference to `submit` is gone. The BOs of its table were given back by [`retire`], or
/// before it was armed.
///
/// # Safety
///
/// Called once; nobody uses the submit any more.
pub(crate) unsafe fn destroy(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: Alive: nobody else uses it, by the caller's promise.
    unsafe { bindings::msm_rs_fence_id_free(submit) };
    // The scheduler's job is cleaned up by `free_job()` if it was pushed, which clears the pointer
    // to its fence; otherwise here, when nobody finds the fence by its number any more.
    // SAFETY: As above.
    let job = unsafe { &raw mut (*submit).base };
    // SAFETY: As above.
    if !unsafe { (*job).s_fence }.is_null() {
        // SAFETY: Initialised, and not cleaned up yet.
        unsafe { bindings::drm_sched_job_cleanup(job) };
    }
    // SAFETY: As above.
    let fence = unsafe { (*submit).user_fence };
    // SAFETY: The submit's reference, or NULL, which is ignored.
    unsafe { bindings::dma_fence_put(fence) };
    // SAFETY: As above.
    let queue = NonNull::new(unsafe { (*submit).queue });
    // SAFETY: The submit's reference, which is given up with its memory.
    let queue = queue.map(|queue| unsafe { Queue::from_raw(queue) });
    // SAFETY: What it referred to was given up; its memory isn't used any more.
    unsafe { bindings::msm_rs_submit_free(submit) };
    drop(queue);
    // SAFETY: `Submit::new()` has left one, and this is called once for each.
    drop(unsafe { InUse::take_back() });
}
