// SPDX-License-Identifier: GPL-2.0-only

//! A VM with something in it, and requests that would change it.

use harness::{ensure_errno, Context, Outcome};
use programs::{model::Model, Gpu, Tolerance};
use uapi::{
    abi::{self, drm_msm_vm_bind, drm_msm_vm_bind_op},
    Bo, Errno, PAGE,
};

/// A VM with something in it, and a place that the requests aim at.
pub(crate) struct Target {
    tolerance: Tolerance,
    pub(crate) gpu: Gpu,
    pub(crate) bo: Bo,
    pub(crate) model: Model,
}

impl Target {
    /// Pages 4 to 8 of the window are mapped; what a request would change is there and right
    /// behind.
    pub(crate) fn new() -> harness::Result<Self> {
        let tolerance = Tolerance::new()?;
        let gpu = Gpu::new()?;
        let (bo, old) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, 8 * PAGE)?);
        let mut model = Model::new(gpu.iova(0), 16);
        gpu.bind()
            .map(&old, 0, model.iova(4), 4 * PAGE)
            .send_and_wait()
            .context("MAP")?;
        model.map(2, 0, 4, 4);
        Ok(Self {
            tolerance,
            gpu,
            bo,
            model,
        })
    }

    /// A MAP that would do: over the end of what is mapped and beyond.
    pub(crate) fn map(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP,
            handle: self.bo.handle(),
            obj_offset: PAGE,
            iova: self.model.iova(6),
            range: 4 * PAGE,
            flags: 0,
            pad: 0,
        }
    }

    pub(crate) fn unmap(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_UNMAP,
            iova: self.model.iova(5),
            range: 4 * PAGE,
            ..Default::default()
        }
    }

    pub(crate) fn map_null(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP_NULL,
            ..self.unmap()
        }
    }

    /// Sends an op alone, as the first, as the last of several that would do, and twice.
    pub(crate) fn refuses(&self, op: drm_msm_vm_bind_op, errno: Errno, what: &str) -> Outcome {
        for (place, ops) in [
            ("alone", vec![op]),
            ("first", vec![op, self.unmap(), self.map()]),
            ("last", vec![self.map(), self.unmap(), self.map_null(), op]),
            ("twice", vec![op, op]),
        ] {
            let mut bind = self.gpu.bind();
            bind.ops = ops;
            ensure_errno!(bind.send(), errno, "{what}, {place}");
            self.unchanged(&format!("after {what}, {place}"))?;
        }
        self.still_usable(what)
    }

    /// Sends a request that would do but for one change.
    pub(crate) fn refuses_request(
        &self,
        change: impl FnOnce(&mut drm_msm_vm_bind),
        errno: Errno,
        what: &str,
    ) -> Outcome {
        let bind = self.gpu.bind().op(self.map()).op(self.unmap());
        let mut request = bind.request();
        change(&mut request);
        ensure_errno!(self.gpu.device.vm_bind_raw(&mut request), errno, "{what}");
        self.unchanged(&format!("after {what}"))?;
        self.still_usable(what)
    }

    pub(crate) fn unchanged(&self, when: &str) -> Outcome {
        self.model.check(&self.gpu, &self.tolerance, when)
    }

    /// The queue still takes and runs jobs.
    pub(crate) fn still_usable(&self, after: &str) -> Outcome {
        self.gpu
            .bind()
            .send_and_wait()
            .with_context(|| format!("a bind without ops after {after}"))
    }
}
