// SPDX-License-Identifier: GPL-2.0-only

//! As much of Vulkan as the tests need, with objects that free themselves.
//!
//! Whatever is dropped first waits for the device to be idle, so nothing that is still in use goes
//! away. All `unsafe` of this program is here.

use anyhow::{ensure, Context, Result};
use ash::{vk, Device, Entry, Instance};
use std::{ffi::CStr, rc::Rc, time::Duration};

/// How long to wait for the GPU: a crash dump takes seconds to be made, on the debug kernel many.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// A device with a queue for commands and one for binding.
#[derive(Clone)]
pub struct Gpu(Rc<Inner>);

struct Inner {
    // Functions stay loaded as long as this lives.
    _entry: Entry,
    instance: Instance,
    physical: vk::PhysicalDevice,
    device: Device,
    commands: (u32, vk::Queue),
    binds: (u32, vk::Queue),
    pool: vk::CommandPool,
    memory: vk::PhysicalDeviceMemoryProperties,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: all that was made of these holds a reference to us, so it is gone.
        unsafe {
            let _ = self.device.device_wait_idle();
            self.device.destroy_command_pool(self.pool, None);
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// What the driver says of itself.
#[derive(Debug)]
pub struct Facts {
    /// Name of the device.
    pub name: String,
    /// PCI-like id of the maker.
    pub vendor: u32,
    /// The three features of sparse buffers: binding, residency, aliases.
    pub sparse: [bool; 3],
    /// Reads of what isn't bound are 0.
    pub strict: bool,
    /// Bytes of addresses for sparse resources.
    pub sparse_address_space: u64,
    /// The families of the two queues.
    pub families: (u32, u32),
}

/// Whether an error is the device's loss.
pub fn is_lost(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&vk::Result::ERROR_DEVICE_LOST)
}

impl Gpu {
    /// The first device, with sparse buffers and timeline semaphores.
    pub fn open() -> Result<Self> {
        // SAFETY: the loader is a Vulkan loader; what is made here is used as the specification
        // asks, and outlived by what it was made from.
        unsafe {
            let entry = Entry::load().context("libvulkan")?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry
                .create_instance(&info, None)
                .context("vkCreateInstance")?;
            let physical = *instance
                .enumerate_physical_devices()?
                .first()
                .context("no Vulkan device")?;
            let families = instance.get_physical_device_queue_family_properties(physical);
            let family = |flag: vk::QueueFlags| {
                // The one that can do least besides.
                families
                    .iter()
                    .enumerate()
                    .filter(|(_, family)| family.queue_flags.contains(flag))
                    .min_by_key(|(_, family)| family.queue_flags.as_raw().count_ones())
                    .map(|(i, _)| i as u32)
            };
            let binds = family(vk::QueueFlags::SPARSE_BINDING).context("no queue binds")?;
            let commands = family(vk::QueueFlags::GRAPHICS).context("no queue for commands")?;
            let mut features = vk::PhysicalDeviceFeatures2::default();
            features.features.sparse_binding = vk::TRUE;
            features.features.sparse_residency_buffer = vk::TRUE;
            features.features.sparse_residency_aliased = vk::TRUE;
            let mut timeline =
                vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
            let mut address = vk::PhysicalDeviceBufferDeviceAddressFeatures::default()
                .buffer_device_address(true);
            let mut wanted = vec![binds, commands];
            wanted.dedup();
            let queues: Vec<_> = wanted
                .iter()
                .map(|family| {
                    vk::DeviceQueueCreateInfo::default()
                        .queue_family_index(*family)
                        .queue_priorities(&[1.0])
                })
                .collect();
            let extensions = [
                ash::khr::timeline_semaphore::NAME.as_ptr(),
                ash::khr::buffer_device_address::NAME.as_ptr(),
            ];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut features)
                .push_next(&mut timeline)
                .push_next(&mut address);
            let device = instance
                .create_device(physical, &info, None)
                .context("vkCreateDevice")?;
            let info = vk::CommandPoolCreateInfo::default().queue_family_index(commands);
            Ok(Self(Rc::new(Inner {
                memory: instance.get_physical_device_memory_properties(physical),
                pool: device.create_command_pool(&info, None)?,
                commands: (commands, device.get_device_queue(commands, 0)),
                binds: (binds, device.get_device_queue(binds, 0)),
                physical,
                device,
                instance,
                _entry: entry,
            })))
        }
    }

    /// What the driver says of itself.
    pub fn facts(&self) -> Facts {
        let inner = &self.0;
        // SAFETY: the physical device is the instance's.
        let (properties, features) = unsafe {
            (
                inner
                    .instance
                    .get_physical_device_properties(inner.physical),
                inner.instance.get_physical_device_features(inner.physical),
            )
        };
        // SAFETY: the driver terminates it.
        let name = unsafe { CStr::from_ptr(properties.device_name.as_ptr()) };
        Facts {
            name: name.to_string_lossy().into_owned(),
            vendor: properties.vendor_id,
            sparse: [
                features.sparse_binding,
                features.sparse_residency_buffer,
                features.sparse_residency_aliased,
            ]
            .map(|feature| feature == vk::TRUE),
            strict: properties.sparse_properties.residency_non_resident_strict == vk::TRUE,
            sparse_address_space: properties.limits.sparse_address_space_size,
            families: (inner.commands.0, inner.binds.0),
        }
    }

    /// A buffer that memory is bound to page by page. With `residency`, what isn't bound reads 0.
    pub fn sparse_buffer(&self, size: u64, residency: bool) -> Result<Buffer> {
        let mut flags = vk::BufferCreateFlags::SPARSE_BINDING;
        if residency {
            flags |=
                vk::BufferCreateFlags::SPARSE_RESIDENCY | vk::BufferCreateFlags::SPARSE_ALIASED;
        }
        self.buffer(size, flags)
    }

    fn buffer(&self, size: u64, flags: vk::BufferCreateFlags) -> Result<Buffer> {
        let usage = vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST
            | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS;
        let info = vk::BufferCreateInfo::default()
            .flags(flags)
            .size(size)
            .usage(usage);
        // SAFETY: the device is alive, and the features that the flags need were switched on.
        let buffer = unsafe { self.0.device.create_buffer(&info, None) };
        let buffer = buffer.context("vkCreateBuffer")?;
        Ok(Buffer {
            gpu: self.clone(),
            buffer,
            size,
        })
    }

    /// Memory of a kind that a buffer takes and that has these properties.
    fn allocate(
        &self,
        size: u64,
        types: u32,
        properties: vk::MemoryPropertyFlags,
    ) -> Result<Memory> {
        let kinds = self.0.memory.memory_types_as_slice();
        let kind = (0..kinds.len())
            .find(|i| types & (1 << i) != 0 && kinds[*i].property_flags.contains(properties))
            .context("no memory of that kind")?;
        let mut flags =
            vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(size)
            .memory_type_index(kind as u32)
            .push_next(&mut flags);
        // SAFETY: the kind exists.
        let memory = unsafe { self.0.device.allocate_memory(&info, None) };
        let memory = memory.context("vkAllocateMemory")?;
        Ok(Memory {
            gpu: self.clone(),
            memory,
        })
    }

    /// Memory to bind to a buffer.
    pub fn memory_for(&self, buffer: &Buffer, size: u64) -> Result<Memory> {
        let types = buffer.requirements().memory_type_bits;
        self.allocate(size, types, vk::MemoryPropertyFlags::DEVICE_LOCAL)
    }

    /// A buffer that this program can see.
    pub fn visible_buffer(&self, size: u64) -> Result<Visible> {
        let buffer = self.buffer(size, vk::BufferCreateFlags::empty())?;
        let requirements = buffer.requirements();
        let memory = self.allocate(
            requirements.size,
            requirements.memory_type_bits,
            vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT,
        )?;
        // SAFETY: the memory is large enough, of a kind that can be mapped, and lives as long as
        // the buffer.
        let at = unsafe {
            let device = &self.0.device;
            device.bind_buffer_memory(buffer.buffer, memory.memory, 0)?;
            device.map_memory(memory.memory, 0, size, vk::MemoryMapFlags::empty())?
        };
        Ok(Visible {
            at: at.cast(),
            buffer,
            _memory: memory,
        })
    }

    fn semaphore_of(&self, kind: vk::SemaphoreType) -> Result<Semaphore> {
        let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(kind);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device is alive and has timeline semaphores.
        let semaphore = unsafe { self.0.device.create_semaphore(&info, None) }?;
        Ok(Semaphore {
            gpu: self.clone(),
            semaphore,
        })
    }

    /// A binary semaphore: each signal is waited for once.
    pub fn semaphore(&self) -> Result<Semaphore> {
        self.semaphore_of(vk::SemaphoreType::BINARY)
    }

    /// A timeline semaphore, at 0.
    pub fn timeline(&self) -> Result<Semaphore> {
        self.semaphore_of(vk::SemaphoreType::TIMELINE)
    }

    /// Records commands; each sees what those before it did.
    pub fn commands(&self, commands: &[Command<'_>]) -> Result<Commands> {
        let device = &self.0.device;
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(self.0.pool)
            .command_buffer_count(1);
        // SAFETY: the pool is alive and used by this thread only; the buffers are as large as the
        // commands say, which is checked.
        unsafe {
            let buffer = device.allocate_command_buffers(&info)?[0];
            let recorded = Commands {
                gpu: self.clone(),
                buffer,
            };
            device.begin_command_buffer(buffer, &vk::CommandBufferBeginInfo::default())?;
            for command in commands {
                command.check()?;
                command.record(device, buffer);
                let everything = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
                let barrier = vk::MemoryBarrier::default()
                    .src_access_mask(everything)
                    .dst_access_mask(everything);
                device.cmd_pipeline_barrier(
                    buffer,
                    vk::PipelineStageFlags::ALL_COMMANDS,
                    vk::PipelineStageFlags::ALL_COMMANDS | vk::PipelineStageFlags::HOST,
                    vk::DependencyFlags::empty(),
                    &[barrier],
                    &[],
                    &[],
                );
            }
            device.end_command_buffer(buffer)?;
            Ok(recorded)
        }
    }

    /// Submits commands, if any, between semaphores.
    pub fn submit(
        &self,
        commands: Option<&Commands>,
        wait: &[At<'_>],
        signal: &[At<'_>],
        fence: Option<&Fence>,
    ) -> Result<()> {
        let buffers: Vec<_> = commands.iter().map(|commands| commands.buffer).collect();
        let (waits, wait_values) = split(wait);
        let (signals, signal_values) = split(signal);
        let stages = vec![vk::PipelineStageFlags::ALL_COMMANDS; waits.len()];
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&wait_values)
            .signal_semaphore_values(&signal_values);
        let info = vk::SubmitInfo::default()
            .command_buffers(&buffers)
            .wait_semaphores(&waits)
            .wait_dst_stage_mask(&stages)
            .signal_semaphores(&signals)
            .push_next(&mut values);
        // SAFETY: all of it is alive, and stays so until the device is idle.
        unsafe {
            self.0
                .device
                .queue_submit(self.0.commands.1, &[info], raw(fence))
        }
        .context("vkQueueSubmit")
    }

    /// Binds and unbinds between semaphores.
    pub fn bind(
        &self,
        binds: &[Bind<'_>],
        wait: &[At<'_>],
        signal: &[At<'_>],
        fence: Option<&Fence>,
    ) -> Result<()> {
        let lists: Vec<_> = binds.iter().map(Bind::list).collect();
        let infos: Vec<_> = binds
            .iter()
            .zip(&lists)
            .map(|(bind, list)| {
                vk::SparseBufferMemoryBindInfo::default()
                    .buffer(bind.buffer.buffer)
                    .binds(list)
            })
            .collect();
        let (waits, wait_values) = split(wait);
        let (signals, signal_values) = split(signal);
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&wait_values)
            .signal_semaphore_values(&signal_values);
        let info = vk::BindSparseInfo::default()
            .buffer_binds(&infos)
            .wait_semaphores(&waits)
            .signal_semaphores(&signals)
            .push_next(&mut values);
        // SAFETY: as above; memory that is bound is only freed when the device is idle, and a GPU
        // that then uses it is what the kernel must prevent.
        unsafe {
            self.0
                .device
                .queue_bind_sparse(self.0.binds.1, &[info], raw(fence))
        }
        .context("vkQueueBindSparse")
    }

    /// A fence, not signalled.
    pub fn fence(&self) -> Result<Fence> {
        // SAFETY: the device is alive.
        let fence = unsafe {
            self.0
                .device
                .create_fence(&vk::FenceCreateInfo::default(), None)
        }?;
        Ok(Fence {
            gpu: self.clone(),
            fence,
        })
    }

    /// Waits until both queues are empty.
    pub fn wait_idle(&self) -> Result<()> {
        // SAFETY: the device is alive, and no other thread uses its queues.
        unsafe { self.0.device.device_wait_idle() }.context("vkDeviceWaitIdle")
    }

    fn wait_idle_before_drop(&self) {
        // A lost device is idle.
        let _ = self.wait_idle();
    }
}

fn raw(fence: Option<&Fence>) -> vk::Fence {
    fence.map_or(vk::Fence::null(), |fence| fence.fence)
}

fn split(list: &[At<'_>]) -> (Vec<vk::Semaphore>, Vec<u64>) {
    list.iter()
        .map(|At(semaphore, value)| (semaphore.semaphore, *value))
        .unzip()
}

/// A buffer.
pub struct Buffer {
    gpu: Gpu,
    buffer: vk::Buffer,
    /// Bytes.
    pub size: u64,
}

impl Buffer {
    fn requirements(&self) -> vk::MemoryRequirements {
        // SAFETY: the buffer is the device's.
        unsafe {
            self.gpu
                .0
                .device
                .get_buffer_memory_requirements(self.buffer)
        }
    }

    /// Bytes of the pieces that can be bound apart.
    pub fn granule(&self) -> u64 {
        self.requirements().alignment
    }

    /// Its address in the VM.
    pub fn address(&self) -> u64 {
        let info = vk::BufferDeviceAddressInfo::default().buffer(self.buffer);
        let device = &self.gpu.0.device;
        let functions = ash::khr::buffer_device_address::Device::new(&self.gpu.0.instance, device);
        // SAFETY: the buffer was made for that.
        unsafe { functions.get_buffer_device_address(&info) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.gpu.wait_idle_before_drop();
        // SAFETY: nothing uses it.
        unsafe { self.gpu.0.device.destroy_buffer(self.buffer, None) }
    }
}

/// Memory, of which pieces can be bound.
pub struct Memory {
    gpu: Gpu,
    memory: vk::DeviceMemory,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gpu.wait_idle_before_drop();
        // SAFETY: nothing uses it. A buffer that it is still bound to isn't used again, or the test
        // is about what happens then.
        unsafe { self.gpu.0.device.free_memory(self.memory, None) }
    }
}

/// A buffer with memory that this program sees.
pub struct Visible {
    at: *mut u8,
    /// The buffer.
    pub buffer: Buffer,
    _memory: Memory,
}

impl Visible {
    /// What is in it. The GPU must not be using it.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.buffer.gpu.wait_idle()?;
        let mut bytes = vec![0; self.buffer.size as usize];
        // SAFETY: that many bytes are mapped; the GPU is idle.
        unsafe {
            self.at
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len())
        };
        Ok(bytes)
    }

    /// Puts bytes at its start. The GPU must not be using it.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.buffer.gpu.wait_idle()?;
        ensure!(bytes.len() as u64 <= self.buffer.size, "more than fits");
        // SAFETY: as above.
        unsafe {
            self.at
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        Ok(())
    }
}

/// A semaphore between submissions.
pub struct Semaphore {
    gpu: Gpu,
    semaphore: vk::Semaphore,
}

impl Semaphore {
    fn functions(&self) -> ash::khr::timeline_semaphore::Device {
        ash::khr::timeline_semaphore::Device::new(&self.gpu.0.instance, &self.gpu.0.device)
    }

    /// A point of a timeline; a binary semaphore has none, and ignores it.
    pub fn at(&self, value: u64) -> At<'_> {
        At(self, value)
    }

    /// Signals a point of a timeline.
    pub fn signal(&self, value: u64) -> Result<()> {
        let info = vk::SemaphoreSignalInfo::default()
            .semaphore(self.semaphore)
            .value(value);
        // SAFETY: the device has timeline semaphores.
        unsafe { self.functions().signal_semaphore(&info) }.context("vkSignalSemaphore")
    }

    /// The point that a timeline has come to.
    pub fn value(&self) -> Result<u64> {
        // SAFETY: as above.
        unsafe { self.functions().get_semaphore_counter_value(self.semaphore) }
            .context("vkGetSemaphoreCounterValue")
    }

    /// Waits for a point of a timeline.
    pub fn wait(&self, value: u64) -> Result<()> {
        let (semaphores, values) = ([self.semaphore], [value]);
        let info = vk::SemaphoreWaitInfo::default()
            .semaphores(&semaphores)
            .values(&values);
        // SAFETY: as above.
        unsafe {
            self.functions()
                .wait_semaphores(&info, PATIENCE.as_nanos() as u64)
        }
        .context("vkWaitSemaphores")
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        self.gpu.wait_idle_before_drop();
        // SAFETY: nothing uses it.
        unsafe { self.gpu.0.device.destroy_semaphore(self.semaphore, None) }
    }
}

/// A semaphore and, of a timeline, a point.
#[derive(Clone, Copy)]
pub struct At<'a>(&'a Semaphore, u64);

/// A fence.
pub struct Fence {
    gpu: Gpu,
    fence: vk::Fence,
}

impl Fence {
    /// Waits for it.
    pub fn wait(&self) -> Result<()> {
        let timeout = PATIENCE.as_nanos() as u64;
        // SAFETY: it is the device's.
        unsafe {
            self.gpu
                .0
                .device
                .wait_for_fences(&[self.fence], true, timeout)
        }
        .context("vkWaitForFences")
    }

    /// Whether it is signalled.
    pub fn signalled(&self) -> Result<bool> {
        // SAFETY: as above.
        unsafe { self.gpu.0.device.get_fence_status(self.fence) }.context("vkGetFenceStatus")
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.gpu.wait_idle_before_drop();
        // SAFETY: nothing uses it.
        unsafe { self.gpu.0.device.destroy_fence(self.fence, None) }
    }
}

/// A piece of a buffer.
#[derive(Clone, Copy)]
pub struct Range<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// A command.
pub enum Command<'a> {
    /// Fills with one word.
    Fill(Range<'a>, u32),
    /// Writes bytes that the command buffer carries.
    Update(Range<'a>, Vec<u8>),
    /// Copies to a range from an offset of a buffer.
    Copy(Range<'a>, &'a Buffer, u64),
}

impl Command<'_> {
    fn check(&self) -> Result<()> {
        let inside = |range: &Range<'_>| range.offset + range.size <= range.buffer.size;
        let (Self::Fill(to, _) | Self::Update(to, _) | Self::Copy(to, ..)) = self;
        ensure!(to.size > 0 && inside(to), "outside of the buffer");
        match self {
            Self::Fill(to, _) => ensure!((to.offset | to.size) % 4 == 0, "no whole words"),
            Self::Update(to, bytes) => ensure!(
                (to.offset | to.size) % 4 == 0 && to.size <= 65536 && bytes.len() as u64 == to.size,
                "not what vkCmdUpdateBuffer takes"
            ),
            Self::Copy(to, from, at) => {
                ensure!(at + to.size <= from.size, "outside of the source");
            }
        }
        Ok(())
    }

    /// # Safety
    /// The command has been checked, and what it refers to is `device`'s.
    unsafe fn record(&self, device: &Device, into: vk::CommandBuffer) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Fill(to, word) => {
                    device.cmd_fill_buffer(into, to.buffer.buffer, to.offset, to.size, *word)
                }
                Self::Update(to, bytes) => {
                    device.cmd_update_buffer(into, to.buffer.buffer, to.offset, bytes)
                }
                Self::Copy(to, from, at) => {
                    let region = vk::BufferCopy::default()
                        .src_offset(*at)
                        .dst_offset(to.offset)
                        .size(to.size);
                    device.cmd_copy_buffer(into, from.buffer, to.buffer.buffer, &[region])
                }
            }
        }
    }
}

/// Recorded commands.
pub struct Commands {
    gpu: Gpu,
    buffer: vk::CommandBuffer,
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.gpu.wait_idle_before_drop();
        let inner = &self.gpu.0;
        // SAFETY: nothing uses it.
        unsafe {
            inner
                .device
                .free_command_buffers(inner.pool, &[self.buffer])
        }
    }
}

/// A piece of a buffer, and what to bind to it.
pub struct Piece<'a> {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Memory and an offset in it, or nothing.
    pub memory: Option<(&'a Memory, u64)>,
}

/// What to bind to the pieces of a buffer.
pub struct Bind<'a> {
    /// The buffer.
    pub buffer: &'a Buffer,
    /// Its pieces.
    pub pieces: Vec<Piece<'a>>,
}

impl Bind<'_> {
    fn list(&self) -> Vec<vk::SparseMemoryBind> {
        self.pieces
            .iter()
            .map(|piece| {
                let bind = vk::SparseMemoryBind::default()
                    .resource_offset(piece.offset)
                    .size(piece.size);
                match piece.memory {
                    Some((memory, at)) => bind.memory(memory.memory).memory_offset(at),
                    None => bind,
                }
            })
            .collect()
    }
}
