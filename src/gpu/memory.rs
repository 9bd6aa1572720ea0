//! How much memory an adapter has. The graphics library does not tell, so the backend below it is asked, where that is one that can be.

#[cfg(any(target_os = "linux", target_os = "android", target_os = "windows", target_os = "freebsd"))]
pub(super) fn of(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the guard lives as long as what is read of it, and nothing of it is destroyed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device is the instance's own, and both are alive behind the guard.
    let properties = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let count = usize::try_from(properties.memory_heap_count).ok()?;
    let heaps = properties.memory_heaps.get(..count)?;
    // `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`; adapters without memory of their own mark the machine's.
    let own = heaps.iter().filter(|heap| heap.flags.as_raw() & 1 != 0);
    own.map(|heap| heap.size).max().filter(|bytes| *bytes > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "windows", target_os = "freebsd")))]
pub(super) fn of(_: &wgpu::Adapter) -> Option<u64> {
    None
}
