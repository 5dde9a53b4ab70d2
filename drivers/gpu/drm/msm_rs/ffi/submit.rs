// SPDX-License-Identifier: GPL-2.0-only

//! `struct msm_gem_submit`, which C runs.

use core::{
    mem::ManuallyDrop,
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
    fmt,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

use super::{
    bindings,
    bo::Bo,
    caller::{
        Caller,
        Fences,
        OutFences, //
    },
    module::{
        self,
        InUse, //
    },
    queue::{
        Queue,
        QueueLocked, //
    },
    submit_request::RawBo,
    user_array::UserArray,
    vm::Managed, //
};
use crate::{
    gpuvm_rs::{
        fence::Fence,
        gem::ObjLocked,
        vm::VmBo, //
    },
    pure::submit::{
        BoFlags,
        Cmd,
        Place, //
    },
};

/// A BO that a submit lists, where C keeps it.
///
/// # Invariants
///
/// A reference to the object, which is a [`Bo`], is owned, and one to the vm_bo, unless that is
/// NULL: then the BO wasn't placed yet. The flags are [`BoFlags`]. It is looked at by the thread
/// that makes the submit, and once that is pushed by [`retire`] alone.
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

    /// Gives back what the entry owns, without waiting. Otherwise it is still an entry, perhaps
    /// without a vm_bo.
    ///
    /// # Safety
    ///
    /// If this returns true, it isn't looked at any more.
    unsafe fn try_give_back(&self) -> bool {
        let obj = self.bo().gem().as_raw();
        let vm_bo = self.get().vm_bo;
        if !vm_bo.is_null() {
            // SAFETY: The entry owns a reference.
            if !unsafe { bindings::gpuvm_rs_obj_trylock(obj) } {
                return false;
            }
            // SAFETY: The reference that the entry owns. The object's lock guards the vm_bo's
            // lists.
            unsafe { bindings::drm_gpuvm_bo_put(vm_bo) };
            // SAFETY: Locked above.
            unsafe { bindings::msm_gem_unlock(obj) };
            // SAFETY: Nobody else looks at it, by the type invariant, nor has borrowed it.
            unsafe { (*self.0.get()).vm_bo = core::ptr::null_mut() };
        }
        // SAFETY: The reference that the entry owns. The last one is kept: to free a BO may take
        // locks, an exporter's among them.
        unsafe { bindings::msm_rs_obj_put_unless_last(obj) }
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
/// There is room for `room` more, which are all zero.
pub(crate) struct Submit {
    raw: NonNull<bindings::msm_gem_submit>,
    room: Room,
}

/// Room for so many entries.
struct Room {
    bos: u32,
    cmds: u32,
}

impl Submit {
    /// A submit to `queue`, with room for so many BOs and commands, and none in it. The commands
    /// are privileged if it is for `sudo`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also for more BOs and commands than fit one allocation; `ENOENT` for a queue
    /// without a scheduler.
    pub(crate) fn new(
        caller: &Caller<'_>,
        queue: &Queue,
        nr_bos: u32,
        nr_cmds: u32,
        sudo: bool,
    ) -> Result<Self> {
        static IDENT: AtomicU32 = AtomicU32::new(0);

        // SAFETY: The queue is alive, by our reference. On failure nothing is left.
        let raw = unsafe {
            bindings::msm_rs_submit_alloc(nr_bos, nr_cmds, queue.raw(), caller.client_id())
        };
        let raw = NonNull::new(kernel::error::from_err_ptr(raw)?).ok_or(ENOMEM)?;
        // INVARIANT: It was made with one reference, with this room, and zeroed.
        let this = Self {
            raw,
            room: Room {
                bos: nr_bos,
                cmds: nr_cmds,
            },
        };
        // SAFETY: As above; the number never changes.
        let ring_nr = unsafe { (*queue.raw()).ring_nr };
        // SAFETY: The GPU is alive, by `Caller`'s invariant; its rings never change.
        let ring = unsafe { (*caller.gpu()).rb[ring_nr as usize] };
        {
            // SAFETY: Ours alone. What it keeps a pointer to lives as long as the queue, of which
            // it gets a reference.
            let submit = unsafe { &mut *raw.as_ptr() };
            submit.queue = queue.clone().into_raw();
            submit.dev = caller.dev();
            submit.gpu = caller.gpu();
            submit.vm = caller.any_vm().as_raw();
            submit.ring = ring;
            submit.ident = IDENT.fetch_add(1, Ordering::Relaxed);
            submit.set_in_rb(sudo);
        }
        // What it waits for may signal long after the file was closed.
        InUse::new().leave();
        // SAFETY: Alive, and filled in as far as the trace looks.
        unsafe { bindings::msm_rs_trace_submit(raw.as_ptr(), nr_bos, nr_cmds) };
        Ok(this)
    }

    fn raw(&self) -> *mut bindings::msm_gem_submit {
        self.raw.as_ptr()
    }

    /// Has devcoredumps say that so many in-syncobjs of the request are ignored.
    pub(crate) fn set_ignored_syncobjs(&mut self, nr: u32) {
        // SAFETY: Ours alone.
        unsafe { (*self.raw()).ignored_syncobjs = nr };
    }

    /// Has it wait for what a request names, and prepares what gets its fence.
    ///
    /// # Errors
    ///
    /// See [`Caller::sync`].
    pub(crate) fn sync<'f>(
        &mut self,
        caller: &Caller<'_>,
        fences: Fences<'f>,
    ) -> Result<OutFences<'f>> {
        let (waits_for, out) = caller.sync(fences)?;
        // SAFETY: It isn't armed.
        unsafe { waits_for.add_to(self.job()) }?;
        Ok(out)
    }

    /// Reads the BO table and looks up the BOs.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `EINVAL` for flags that make no sense, an unknown handle, or more BOs than there
    /// was said to be.
    pub(crate) fn list_bos(&mut self, caller: &Caller<'_>, bos: &UserArray<RawBo>) -> Result {
        let nr = bos.len();
        if nr == 0 {
            return Ok(());
        }
        // Once.
        if nr > core::mem::take(&mut self.room.bos) {
            return Err(EINVAL);
        }
        let submit = self.raw();
        // SAFETY: Ours, by the type invariant.
        let entries = unsafe { &raw mut (*submit).bos }.cast::<RawEntry>();
        // SAFETY: There was room for so many, by the type invariant.
        let slot = |i: u32| unsafe { entries.add(i as usize) };
        bos.for_each(|i, bo| {
            let flags = BoFlags::new(bo.flags)
                .ok_or_else(|| caller.invalid(fmt!("BO {i}: invalid flags: {:x}", bo.flags)))?;
            // SAFETY: Ours alone; zeroed, by the type invariant.
            let entry = unsafe { &mut *slot(i) };
            entry.flags = flags.bits();
            entry.__bindgen_anon_1.handle = bo.handle;
            Ok(())
        })?;
        let handles = caller.handles();
        for i in 0..nr {
            // SAFETY: Ours alone, and filled in above.
            let entry = unsafe { &mut *slot(i) };
            // SAFETY: It is the handle so far.
            let handle = unsafe { entry.__bindgen_anon_1.handle };
            let Some(bo) = handles.find(handle) else {
                drop(handles);
                return Err(caller.invalid(fmt!("BO {i}: invalid handle {handle}")));
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

    /// Has the scheduler run it when there is room in the ring for all of it. All commands have
    /// been added.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there never is.
    pub(crate) fn reserve_ring(&mut self, caller: &Caller<'_>) -> Result {
        // SAFETY: Ours alone, and not armed; its ring is the queue's.
        let result = unsafe { bindings::msm_ringbuffer_reserve(self.raw()) };
        kernel::error::to_result(result).inspect_err(|_| {
            caller.note(fmt!("too many commands for the ring"));
        })
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

    /// Reserves the number by which userspace knows the fence: `wanted`, or the next.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; `EINVAL` for a named number that is in use, zero, or no positive `int`.
    pub(crate) fn reserve_fence_id(
        &self,
        caller: &Caller<'_>,
        wanted: Option<u32>,
        _queue: &QueueLocked<'_>,
    ) -> Result {
        let wanted = match wanted.map(i32::try_from) {
            None => 0,
            Some(Ok(id)) if id > 0 => id,
            Some(_) => return Err(caller.invalid(fmt!("invalid in-fence-sn"))),
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

    /// Adds commands. Those in a BO of the table have no address before [`Self::place_cmds`].
    ///
    /// # Errors
    ///
    /// `EINVAL` for more than there was said to be.
    pub(crate) fn add_cmd(&mut self, cmd: &Cmd) -> Result {
        let (iova, index, offset) = match cmd.place {
            Place::Iova(iova) => (iova, 0, 0),
            Place::Table { index, offset, .. } => (0, index, offset),
        };
        self.room.cmds = self.room.cmds.checked_sub(1).ok_or(EINVAL)?;
        // SAFETY: Ours alone.
        let submit = unsafe { &mut *self.raw() };
        // SAFETY: There was room for one more, by the type invariant.
        let to = unsafe { submit.cmd.add(submit.nr_cmds as usize) };
        // SAFETY: As above. It isn't a part of the structure that `submit` borrows.
        let to = unsafe { &mut *to };
        to.type_ = cmd.kind;
        to.size = cmd.size / 4;
        to.iova = iova;
        to.offset = offset / 4;
        to.idx = index;
        submit.nr_cmds += 1;
        Ok(())
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

    /// Whether somebody reads the debugfs file `rd`, for [`Self::dump`].
    pub(crate) fn is_recorded(&self) -> bool {
        // SAFETY: Filled in, as far as it looks at it.
        unsafe { bindings::msm_rs_rd_wanted(self.raw()) }
    }

    /// Writes the submit into the debugfs file `rd`, if somebody reads it. The VM is locked, and so
    /// are the BOs that the GPU can reach.
    pub(crate) fn dump(&self) {
        // SAFETY: Filled in.
        unsafe { bindings::msm_rs_rd_dump(self.raw()) };
    }

    /// Starts the submit's fences: the point of no return.
    pub(crate) fn arm(self, _queue: &QueueLocked<'_>) -> ArmedSubmit {
        let submit = ManuallyDrop::new(self).raw;
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

/// When a submit was sent and what it waits for, as devcoredumps tell it.
pub(crate) struct Sent {
    queue: i32,
    fence: i32,
    at: i64,
    waits: u32,
    ignored: u32,
}

impl Sent {
    /// What is to be known of `submit`.
    ///
    /// # Safety
    ///
    /// It is alive, and was pushed.
    pub(crate) unsafe fn of(submit: *mut bindings::msm_gem_submit) -> Self {
        // SAFETY: Alive, by the caller's promise; this never changes.
        let queue = unsafe { (*submit).queue };
        Self {
            // SAFETY: The submit has a reference to it; its number never changes.
            queue: unsafe { (*queue).id },
            // SAFETY: Alive; this doesn't change any more, by the caller's promise.
            fence: unsafe { (*submit).fence_id },
            // SAFETY: As above.
            at: unsafe { (*submit).base.submit_ts },
            // SAFETY: Alive.
            waits: unsafe { bindings::msm_rs_submit_nr_dependencies(submit) },
            // SAFETY: As for the number of the fence.
            ignored: unsafe { (*submit).ignored_syncobjs },
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue={} fence={} ", self.queue, self.fence)?;
        write!(
            f,
            "sent={} waits={} ignored={}",
            self.at, self.waits, self.ignored
        )
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
/// Whoever calls this signals the GPU's fences, for which others may wait with a BO's lock. So
/// nothing is waited for here: at the first BO that somebody has locked, or that may go now, the
/// rest is left to a work item, see [`retire_rest`].
///
/// # Safety
///
/// Called once, for a submit that was filled in.
pub(crate) unsafe fn retire(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: Filled in, by the caller's promise, and alive. Nobody else looks at the table any
    // more.
    let table = unsafe { table(submit) };
    let mut left = table;
    while let Some((last, others)) = left.split_last() {
        // SAFETY: It isn't looked at any more if that succeeds.
        if !unsafe { last.try_give_back() } {
            break;
        }
        left = others;
    }
    // SAFETY: As above.
    unsafe { (*submit).nr_bos = left.len() as u32 };
    if !left.is_empty() {
        // SAFETY: The queue is there as long as the module is. The work has a reference.
        unsafe { bindings::msm_rs_retire_later(module::retired(), submit) };
    }
}

/// Gives back what [`retire`] has left, and waits for it as long as it takes.
///
/// # Safety
///
/// Called once after [`retire`] if that has left anything, on [`module::retired`].
pub(crate) unsafe fn retire_rest(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: What is left there was filled in, and is alive. Nobody else looks at it.
    for entry in unsafe { table(submit) } {
        let obj = entry.bo().gem().as_raw();
        // SAFETY: The entry owns a reference.
        unsafe { bindings::msm_gem_lock(obj) };
        // SAFETY: The reference that the entry owns, or NULL, which is ignored. The object's lock
        // guards the vm_bo's lists.
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
    // SAFETY: It was counted when it was made, and this is called once for each.
    unsafe { bindings::msm_rs_submit_gone() };
    // SAFETY: `Submit::new()` has left one, and this is called once for each.
    drop(unsafe { InUse::take_back() });
}

/// Waits until no submit is left, of whichever file: until what they wait for has signalled, and
/// the GPU is done with them. No lock is held.
pub(crate) fn wait_for_all() {
    // SAFETY: Has no preconditions.
    unsafe { bindings::msm_rs_submits_wait() };
}
