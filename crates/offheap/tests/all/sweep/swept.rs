//! The operations, each in a body that uses nothing but the pool it is given, and the domains.

use super::objects::*;
use offheap::buffer::{allocate_bitmap, allocate_empty_bitmap};
#[cfg(feature = "c-abi")]
use offheap::domain::c_abi;
use offheap::domain::{ArenaAllocator, pool_of_c_allocator};
use offheap::{
    Alignment, AllocatorPool, BitmapBuilder, Block, Buffer, BufferBuilder, BufferOutputStream,
    DebugOptions, DeviceBuffer, Domain, GlobalAllocPool, Location, LogFormat, LogSink, MemoryPool,
    MutableBuffer, MutableDeviceBuffer, Pool, PoolAllocator, PoolMalloc, ResizableBuffer,
    TrackOptions, TypedBufferBuilder, UninitBuffer, c_allocator_of, cpu_memory_manager,
    default_memory_pool, object_memory_pool,
};
use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;

type Body = fn(&Pool) -> Result<()>;

/// What is swept: a name and a body that calls it, with a pool whose requests fail. Every request
/// fails once and with all after it, in all domains, too; nothing may leak or abort, and whatever
/// existed before must be unchanged after an error ([`unchanged`]).
pub(super) const SWEPT: &[(&str, Body)] = &[
    // Pools.
    ("Pool::allocate", |pool| allocates(pool, Pool::allocate)),
    ("Pool::allocate_zeroed", |pool| {
        allocates(pool, Pool::allocate_zeroed)
    }),
    ("Pool::allocate_on_device", |pool| {
        allocates(pool, |pool, size, alignment| {
            pool.allocate_on_device(size, alignment, true)
        })
    }),
    ("Pool::reallocate", |pool| {
        reallocates(pool, |block, old, new| unsafe {
            // SAFETY: `reallocates` gives a live block with its size.
            pool.reallocate(block, old, new, Alignment::DEFAULT)
        })
    }),
    ("Pool::limit", |pool| works(&pool.limit(10_000))),
    ("Pool::limit_named", |pool| {
        works(&pool.limit_named(10_000, Some("query")))
    }),
    ("Pool::proxy", |pool| works(&pool.proxy())),
    ("Pool::proxy_named", |pool| {
        works(&pool.proxy_named(Some("tenant")))
    }),
    ("Pool::custom", |pool| {
        works(&Pool::custom(Forwards(pool.clone())))
    }),
    ("Pool::hook", |pool| works(&pool.hook(never()?))),
    ("Pool::failing", |pool| {
        works(&pool.failing(never_options())?)
    }),
    ("Pool::track", |pool| {
        works(&pool.track(TrackOptions::default()))
    }),
    ("Pool::log", |pool| {
        let sink = LogSink::Writer(Box::new(std::io::sink()));
        works(&pool.log(LogFormat::Json, sink)?)
    }),
    ("Pool::scoped_statistics", |pool| {
        works(&pool.scoped_statistics())
    }),
    // Blocks that wait in the quarantine go with the pool.
    ("Pool::debug", |pool| {
        works(&pool.debug(DebugOptions::default()))
    }),
    ("Failing::over", |pool| works(&never()?.over(pool))),
    ("MemoryPool::allocate", |pool| {
        allocates(pool, <Pool as MemoryPool>::allocate)
    }),
    ("MemoryPool::allocate_zeroed", |pool| {
        // The trait's own, which allocates and fills.
        allocates(&Pool::custom(Forwards(pool.clone())), Pool::allocate_zeroed)
    }),
    ("MemoryPool::reallocate", |pool| {
        reallocates(pool, |block, old, new| unsafe {
            // SAFETY: `reallocates` gives a live block with its size.
            MemoryPool::reallocate(pool, block, old, new, Alignment::DEFAULT)
        })
    }),
    ("Pool as MemoryPool", |pool| {
        let zeroed = <Pool as MemoryPool>::allocate_zeroed;
        allocates(pool, zeroed)
    }),
    ("default_memory_pool", |_| works(&default_memory_pool())),
    ("object_memory_pool", |_| works(&object_memory_pool())),
    // Domains.
    ("Domain::allocator", |_| {
        Domain::ALL
            .iter()
            .try_for_each(|domain| works(&domain.allocator()))
    }),
    ("Domain::pool", |_| {
        Domain::ALL
            .iter()
            .try_for_each(|domain| works(&domain.pool()))
    }),
    ("Domain::malloc", |_| {
        in_domains(|domain, size| domain.malloc(size))
    }),
    ("Domain::aligned_malloc", |_| {
        in_domains(|domain, size| domain.aligned_malloc(size, Alignment::new(256).unwrap()))
    }),
    ("Domain::calloc", |_| {
        in_domains(|domain, size| domain.calloc(2, size / 2))
    }),
    ("Domain::realloc", |_| {
        in_domains(|domain, size| {
            let block = domain.malloc(size);
            // SAFETY: a live block of this domain, or null.
            unsafe {
                regrown(
                    block,
                    size,
                    |new| domain.realloc(block, new),
                    |old| domain.free(old),
                )
            }
        })
    }),
    ("c_allocator_of", |pool| {
        let c = c_allocator_of(pool);
        // SAFETY: the struct's functions with its context, and live blocks of it.
        unsafe {
            let zeroed = (c.calloc)(c.ctx, 3, 7).cast::<u8>();
            let block = (c.malloc)(c.ctx, 100).cast::<u8>();
            let block = regrown(
                block,
                100,
                |new| (c.realloc)(c.ctx, block.cast(), new).cast(),
                |block| (c.free)(c.ctx, block.cast()),
            );
            let ran_out = zeroed.is_null() || block.is_null();
            (c.free)(c.ctx, zeroed.cast());
            (c.free)(c.ctx, block.cast());
            if ran_out { Err(no_memory()) } else { Ok(()) }
        }
    }),
    ("CAllocator::into_pool", |pool| {
        // SAFETY: `c_allocator_of`'s functions keep C's contract.
        works(&unsafe { c_allocator_of(pool).into_pool() })
    }),
    ("pool_of_c_allocator", |pool| {
        // SAFETY: as above.
        works(&unsafe { pool_of_c_allocator(c_allocator_of(pool)) })
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_raw_malloc", |_| {
        in_c(|size| c_abi::offheap_raw_malloc(size), Domain::Raw)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_mem_malloc", |_| {
        in_c(|size| c_abi::offheap_mem_malloc(size), Domain::Mem)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_object_malloc", |_| {
        in_c(|size| c_abi::offheap_object_malloc(size), Domain::Object)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_raw_calloc", |_| {
        in_c(|size| c_abi::offheap_raw_calloc(2, size), Domain::Raw)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_mem_calloc", |_| {
        in_c(|size| c_abi::offheap_mem_calloc(2, size), Domain::Mem)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_object_calloc", |_| {
        in_c(|size| c_abi::offheap_object_calloc(2, size), Domain::Object)
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_raw_realloc", |_| {
        in_c(
            // SAFETY: null is a malloc; `Domain::realloc` is swept for the rest.
            |size| unsafe { c_abi::offheap_raw_realloc(std::ptr::null_mut(), size) },
            Domain::Raw,
        )
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_mem_realloc", |_| {
        in_c(
            // SAFETY: as above.
            |size| unsafe { c_abi::offheap_mem_realloc(std::ptr::null_mut(), size) },
            Domain::Mem,
        )
    }),
    #[cfg(feature = "c-abi")]
    ("offheap_object_realloc", |_| {
        in_c(
            // SAFETY: as above.
            |size| unsafe { c_abi::offheap_object_realloc(std::ptr::null_mut(), size) },
            Domain::Object,
        )
    }),
    // Other allocators' interfaces.
    ("PoolAllocator as Allocator", |pool| {
        let mut bytes = allocator_api2::vec::Vec::new_in(PoolAllocator::new(pool));
        for i in 0..300_u16 {
            unchanged(
                &mut bytes,
                |bytes| bytes.to_vec(),
                |bytes| bytes.try_reserve(1).map_err(|_| no_memory()),
            )?;
            bytes.push(i);
        }
        Ok(())
    }),
    ("Pool::from_allocator", |pool| {
        works(&Pool::from_allocator(PoolAllocator::new(pool)))
    }),
    ("AllocatorPool as MemoryPool", |pool| {
        let over = Pool::custom(AllocatorPool::new(PoolAllocator::new(pool)));
        reallocates(&over, |block, old, new| unsafe {
            // SAFETY: `reallocates` gives a live block with its size.
            over.reallocate(block, old, new, Alignment::DEFAULT)
        })
    }),
    ("PoolGlobalAlloc as GlobalAlloc", |pool| {
        let global = global_over(pool)?;
        let layout = Layout::from_size_align(100, 128).unwrap();
        for zeroed in [false, true] {
            // SAFETY: a layout of more than no bytes; live blocks with theirs.
            unsafe {
                let block = if zeroed {
                    global.alloc_zeroed(layout)
                } else {
                    global.alloc(layout)
                };
                let grown = regrown(
                    block,
                    100,
                    |new| global.realloc(block, layout, new),
                    |block| global.dealloc(block, layout),
                );
                if grown.is_null() {
                    return Err(no_memory());
                }
                let layout = Layout::from_size_align(9000, 128).unwrap();
                global.dealloc(grown, layout);
            }
        }
        Ok(())
    }),
    ("Pool::from_global_alloc", |pool| {
        works(&Pool::from_global_alloc(global_over(pool)?))
    }),
    ("GlobalAllocPool as MemoryPool", |pool| {
        let over = Pool::custom(GlobalAllocPool::new(global_over(pool)?));
        reallocates(&over, |block, old, new| unsafe {
            // SAFETY: `reallocates` gives a live block with its size.
            over.reallocate(block, old, new, Alignment::DEFAULT)
        })
    }),
    ("PoolMalloc::malloc", |pool| {
        let c = PoolMalloc::new(pool);
        // SAFETY: the block just allocated, or null.
        with_malloc(|size| c.malloc(size), |block| unsafe { c.free(block) })
    }),
    ("PoolMalloc::calloc", |pool| {
        let c = PoolMalloc::new(pool);
        // SAFETY: as above.
        with_malloc(|size| c.calloc(2, size), |block| unsafe { c.free(block) })
    }),
    ("PoolMalloc::realloc", |pool| {
        let c = PoolMalloc::new(pool);
        let grown = |size| {
            let block = c.malloc(size);
            // SAFETY: a live block of `size` bytes, or null.
            unsafe {
                regrown(
                    block.cast(),
                    size,
                    |new| c.realloc(block, new).cast(),
                    |old| c.free(old.cast()),
                )
            }
        };
        // SAFETY: the block just allocated, or null.
        with_malloc(|size| grown(size).cast(), |block| unsafe { c.free(block) })
    }),
    ("PoolMalloc::c_malloc", |pool| {
        let c = PoolMalloc::new(pool);
        let context = c.as_context();
        // SAFETY: the context of a value that lives, and its blocks.
        with_malloc(
            |size| unsafe { PoolMalloc::c_malloc(context, size) },
            |block| unsafe {
                PoolMalloc::c_free(context, block);
            },
        )
    }),
    ("PoolMalloc::c_calloc", |pool| {
        let c = PoolMalloc::new(pool);
        let context = c.as_context();
        // SAFETY: as above.
        with_malloc(
            |size| unsafe { PoolMalloc::c_calloc(context, 2, size) },
            |block| unsafe {
                PoolMalloc::c_free(context, block);
            },
        )
    }),
    ("PoolMalloc::c_realloc", |pool| {
        let c = PoolMalloc::new(pool);
        let context = c.as_context();
        let none = std::ptr::null_mut();
        // SAFETY: as above; null is a malloc.
        with_malloc(
            |size| unsafe { PoolMalloc::c_realloc(context, none, size) },
            |block| unsafe {
                PoolMalloc::c_free(context, block);
            },
        )
    }),
    // Arenas of the small-object allocator.
    ("ArenaAllocator::allocate", |pool| {
        let arenas = ArenaAllocator::from_pool(pool);
        let arena = arenas.allocate(256 << 10).ok_or_else(no_memory)?;
        // SAFETY: the arena just allocated.
        unsafe { arenas.free(arena, 256 << 10) };
        Ok(())
    }),
    // Blocks and buffers.
    ("Block::allocate", |pool| {
        let plain = Block::allocate(100, Alignment::DEFAULT, pool, false)?;
        let zeroed = Block::allocate(100, Alignment::new(4096)?, pool, true)?;
        drop(Block::allocate(0, Alignment::DEFAULT, pool, true)?.park());
        drop((plain, zeroed));
        Ok(())
    }),
    ("Block::allocate_on_device", |pool| {
        let plain = Block::allocate_on_device(100, Alignment::DEFAULT, pool, false)?;
        drop(Block::allocate_on_device(100, Alignment::new(4096)?, pool, true)?.park());
        drop(plain);
        Ok(())
    }),
    ("Block::foreign_at", |_| {
        foreign(|bytes, owner| unsafe {
            // SAFETY: the owner keeps the bytes where they are.
            Block::foreign_at(bytes.cast(), bytes.len(), Location::CPU, owner)
        })
    }),
    ("Block::foreign", |_| {
        // SAFETY: the owner keeps the bytes where they are.
        foreign(|bytes, owner| unsafe { Block::foreign(bytes.cast(), bytes.len(), owner) })
    }),
    ("Block::reallocate", |pool| {
        let mut block = Block::allocate(100, Alignment::DEFAULT, pool, true)?;
        [90, 500, 30, 0, 200].into_iter().try_for_each(|size| {
            unchanged(
                &mut block,
                |block| {
                    (
                        block.as_ptr(),
                        block.size(),
                        block.capacity(),
                        block.alignment(),
                    )
                },
                |block| block.reallocate(size),
            )
        })
    }),
    ("Buffer::copy_from", |pool| {
        Buffer::copy_from(b"abc", pool).map(drop)
    }),
    ("Buffer::from_owner", |_| {
        foreign(|_, owner| Buffer::from_owner(owner))
    }),
    ("Buffer::from_foreign", |_| {
        // SAFETY: the owner keeps the bytes, and nobody writes them.
        foreign(|bytes, owner| unsafe { Buffer::from_foreign(bytes.cast(), bytes.len(), owner) })
    }),
    ("Buffer::concat", |pool| {
        Buffer::concat(&[b"abc", b"def"], pool).map(drop)
    }),
    ("Buffer::copy_slice", |pool| {
        with_buffer(pool, |buffer| buffer.copy_slice(3, 50, pool).map(drop))
    }),
    ("Buffer::ensure_alignment", |pool| {
        with_buffer(pool, |buffer| {
            let odd = buffer.slice(1, 50)?;
            odd.ensure_alignment(Alignment::DEFAULT, pool).map(drop)
        })
    }),
    ("MutableBuffer::zeroed", |pool| {
        MutableBuffer::zeroed(100, pool).map(drop)
    }),
    ("MutableBuffer::zeroed_aligned", |pool| {
        MutableBuffer::zeroed_aligned(100, Alignment::new(4096)?, pool).map(drop)
    }),
    ("MutableBuffer::copy_from", |pool| {
        MutableBuffer::copy_from(b"abc", pool).map(drop)
    }),
    ("UninitBuffer::allocate", |pool| {
        UninitBuffer::allocate(100, Alignment::DEFAULT, pool).map(drop)
    }),
    ("allocate_bitmap", |pool| {
        allocate_bitmap(100, pool).map(drop)
    }),
    ("allocate_empty_bitmap", |pool| {
        allocate_empty_bitmap(100, pool).map(drop)
    }),
    ("ResizableBuffer::zeroed", |pool| {
        ResizableBuffer::zeroed(100, pool).map(drop)
    }),
    ("ResizableBuffer::zeroed_aligned", |pool| {
        ResizableBuffer::zeroed_aligned(100, Alignment::new(4096)?, pool).map(drop)
    }),
    ("ResizableBuffer::with_capacity", |pool| {
        ResizableBuffer::with_capacity(100, Alignment::DEFAULT, pool).map(drop)
    }),
    ("ResizableBuffer::reserve", |pool| {
        resizable(pool, |buffer| buffer.reserve(1000))
    }),
    ("ResizableBuffer::reserve_typed", |pool| {
        resizable(pool, |buffer| buffer.reserve_typed::<u64>(1000))
    }),
    ("ResizableBuffer::resize", |pool| {
        resizable(pool, |buffer| buffer.resize(1000, false))?;
        resizable(pool, |buffer| buffer.resize(10, true))?;
        resizable(pool, |buffer| buffer.resize(0, true))
    }),
    ("ResizableBuffer::resize_typed", |pool| {
        resizable(pool, |buffer| buffer.resize_typed::<u64>(1000, true))
    }),
    ("ResizableBuffer::resize_uninit", |pool| {
        // SAFETY: fewer bytes, all initialised.
        resizable(pool, |buffer| unsafe { buffer.resize_uninit(10, true) })
    }),
    // Builders of bytes.
    ("BufferBuilder::with_capacity", |pool| {
        BufferBuilder::with_capacity(100, pool).map(drop)
    }),
    ("BufferBuilder::append", |pool| {
        bytes(pool, |builder| builder.append(&[1; 300]))
    }),
    ("BufferBuilder::append_copies", |pool| {
        bytes(pool, |builder| builder.append_copies(7, 300))
    }),
    ("BufferBuilder::advance", |pool| {
        bytes(pool, |builder| builder.advance(300))
    }),
    ("BufferBuilder::reserve", |pool| {
        bytes(pool, |builder| builder.reserve(300))
    }),
    ("BufferBuilder::resize", |pool| {
        bytes(pool, |builder| builder.resize(1000, false))?;
        bytes(pool, |builder| builder.resize(100, true))
    }),
    ("BufferBuilder::finish", |pool| {
        bytes(pool, |builder| builder.finish(true))?;
        bytes(pool, |builder| builder.finish(false))?;
        BufferBuilder::new(pool).finish(true).map(drop)
    }),
    ("BufferBuilder::finish_with_length", |pool| {
        bytes(pool, |builder| builder.finish_with_length(50, true))?;
        bytes(pool, |builder| builder.finish_with_length(150, true))
    }),
    ("BufferBuilder as From", |pool| {
        let mut builder = BufferBuilder::from(ResizableBuffer::zeroed(100, pool)?);
        unchanged(&mut builder, look_at_bytes, |builder| {
            builder.append(&[1; 300])
        })
    }),
    // Builders of numbers.
    ("TypedBufferBuilder::with_capacity", |pool| {
        TypedBufferBuilder::<f64>::with_capacity(100, pool).map(drop)
    }),
    ("TypedBufferBuilder::append", |pool| {
        let mut builder = TypedBufferBuilder::<u32>::new(pool);
        (0..200)
            .try_for_each(|i| unchanged(&mut builder, look_at_numbers, |builder| builder.append(i)))
    }),
    ("TypedBufferBuilder::append_values", |pool| {
        numbers(pool, |builder| builder.append_values(&[1; 300]))
    }),
    ("TypedBufferBuilder::append_iter", |pool| {
        // Its capacity may have grown: what was appended is taken back.
        let mut builder = TypedBufferBuilder::<u32>::new(pool);
        builder.append_values(&[5; 40])?;
        let unbounded = (0..900_u32).filter(|n| n % 2 == 0);
        unchanged(
            &mut builder,
            |builder| builder.as_slice().to_vec(),
            |builder| builder.append_iter(unbounded),
        )
    }),
    ("TypedBufferBuilder::append_from_fn", |pool| {
        numbers(pool, |builder| builder.append_from_fn(300, |i| i as _))
    }),
    ("TypedBufferBuilder::append_copies", |pool| {
        numbers(pool, |builder| builder.append_copies(7, 300))
    }),
    ("TypedBufferBuilder::advance", |pool| {
        numbers(pool, |builder| builder.advance(300))
    }),
    ("TypedBufferBuilder::reserve", |pool| {
        numbers(pool, |builder| builder.reserve(300))
    }),
    ("TypedBufferBuilder::resize", |pool| {
        numbers(pool, |builder| builder.resize(1000, false))?;
        numbers(pool, |builder| builder.resize(40, true))
    }),
    ("TypedBufferBuilder::finish", |pool| {
        numbers(pool, |builder| builder.finish(true))?;
        TypedBufferBuilder::<i8>::new(pool).finish(true).map(drop)
    }),
    ("TypedBufferBuilder::finish_with_length", |pool| {
        numbers(pool, |builder| builder.finish_with_length(20, true))?;
        numbers(pool, |builder| builder.finish_with_length(50, true))
    }),
    // Builders of bits.
    ("BitmapBuilder::with_capacity", |pool| {
        BitmapBuilder::with_capacity(100, pool).map(drop)
    }),
    ("BitmapBuilder::append", |pool| {
        let mut builder = BitmapBuilder::new(pool);
        (0..2000).try_for_each(|i| {
            unchanged(&mut builder, look_at_bits, |builder| {
                builder.append(i % 3 == 0)
            })
        })
    }),
    ("BitmapBuilder::append_values", |pool| {
        bits(pool, |builder| builder.append_values(&[true; 3000]))
    }),
    ("BitmapBuilder::append_bytes", |pool| {
        bits(pool, |builder| builder.append_bytes(&[1; 3000]))
    }),
    ("BitmapBuilder::append_copies", |pool| {
        bits(pool, |builder| builder.append_copies(true, 3000))?;
        bits(pool, |builder| builder.append_copies(false, 3001))
    }),
    ("BitmapBuilder::append_from_fn", |pool| {
        bits(pool, |builder| builder.append_from_fn(3000, |i| i % 3 == 0))
    }),
    ("BitmapBuilder::append_iter", |pool| {
        // Not told how many: it grows in the middle, and what was appended is taken back.
        let mut builder = BitmapBuilder::new(pool);
        (0..690).try_for_each(|i| builder.append(i % 3 == 0))?;
        let unbounded = (0..9000).filter(|n| n % 2 == 0).map(|n| n % 3 == 0);
        unchanged(
            &mut builder,
            |builder| {
                let bits: Vec<_> = (0..=builder.len()).map(|i| builder.get(i)).collect();
                (bits, builder.false_count())
            },
            |builder| builder.append_iter(unbounded),
        )
    }),
    ("BitmapBuilder::append_packed", |pool| {
        bits(pool, |builder| builder.append_packed(&[0xA5; 400], 3, 3000))
    }),
    ("BitmapBuilder::advance", |pool| {
        bits(pool, |builder| builder.advance(3000))
    }),
    ("BitmapBuilder::reserve", |pool| {
        bits(pool, |builder| builder.reserve(3000))
    }),
    ("BitmapBuilder::resize", |pool| {
        bits(pool, |builder| builder.resize(30_000, false))?;
        bits(pool, |builder| builder.resize(700, true))
    }),
    ("BitmapBuilder::finish", |pool| {
        bits(pool, |builder| builder.finish(true))?;
        bits(pool, |builder| builder.finish(false))?;
        BitmapBuilder::new(pool).finish(true).map(drop)
    }),
    ("BitmapBuilder::finish_with_length", |pool| {
        bits(pool, |builder| builder.finish_with_length(100, true))?;
        bits(pool, |builder| builder.finish_with_length(690, true))
    }),
    // Streams.
    ("BufferOutputStream::create", |pool| {
        BufferOutputStream::create(100, pool).map(drop)
    }),
    ("BufferOutputStream::over", |pool| {
        stream(
            BufferOutputStream::over(ResizableBuffer::zeroed(100, pool)?),
            |stream| stream.write(&[1; 300]),
        )
    }),
    ("BufferOutputStream::write", |pool| {
        // The first growth, which may fail and leave room for what is written, and a later one.
        stream(BufferOutputStream::create(0, pool)?, |stream| {
            stream.write(&[1; 10])
        })?;
        stream(written(pool)?, |stream| stream.write(&[1; 300]))
    }),
    ("BufferOutputStream as Write", |pool| {
        stream(written(pool)?, |stream| {
            stream.write_all(&[1; 300]).map_err(error_of)
        })
    }),
    ("BufferOutputStream::finish", |pool| {
        stream(written(pool)?, |stream| stream.finish(true))
    }),
    ("BufferOutputStream::reset", |pool| {
        stream(written(pool)?, |stream| stream.reset(1000))
    }),
    // Devices: on the CPU, whose pools can refuse.
    ("MutableDeviceBuffer::allocate", |pool| {
        let manager = cpu_memory_manager(pool)?;
        MutableDeviceBuffer::allocate(100, &manager).map(drop)
    }),
    ("MutableDeviceBuffer::allocate_aligned", |pool| {
        let (manager, alignment) = (cpu_memory_manager(pool)?, Alignment::new(4096)?);
        MutableDeviceBuffer::allocate_aligned(100, alignment, &manager).map(drop)
    }),
    ("MutableDeviceBuffer::zeroed", |pool| {
        MutableDeviceBuffer::zeroed(100, &cpu_memory_manager(pool)?).map(drop)
    }),
    ("MemoryManager::allocate", |pool| {
        let block = cpu_memory_manager(pool)?.allocate(100, Alignment::DEFAULT, true)?;
        drop(block);
        Ok(())
    }),
    ("MemoryManager::copy_from", |pool| {
        with_buffer(pool, |buffer| {
            let source = DeviceBuffer::from(buffer.clone());
            cpu_memory_manager(pool)?.copy_from(&source).map(drop)
        })
    }),
    ("MemoryManager::copy_to", |pool| {
        with_buffer(pool, |buffer| {
            let (source, to) = (
                DeviceBuffer::from(buffer.clone()),
                cpu_memory_manager(pool)?,
            );
            source.memory_manager().copy_to(&source, &to).map(drop)
        })
    }),
    ("CpuMemoryManager as MemoryManager", |pool| {
        let mut bytes = MutableDeviceBuffer::zeroed(10, &cpu_memory_manager(pool)?)?;
        bytes.write(3, b"abc")?;
        let mut reader = bytes.freeze().reader()?;
        reader.read(5).map(drop)
    }),
    ("DeviceBuffer::copy_from", |pool| {
        DeviceBuffer::copy_from(b"abc", &cpu_memory_manager(pool)?).map(drop)
    }),
    ("DeviceBuffer::copy_to", |pool| {
        with_buffer(pool, |buffer| {
            let source = DeviceBuffer::from(buffer.clone());
            source.copy_to(&cpu_memory_manager(pool)?).map(drop)
        })
    }),
    ("DeviceBuffer::view_on", |pool| {
        with_buffer(pool, |buffer| {
            let source = DeviceBuffer::from(buffer.clone());
            source.view_on(&cpu_memory_manager(pool)?).map(drop)
        })
    }),
    ("DeviceBuffer::view_or_copy_to", |pool| {
        with_buffer(pool, |buffer| {
            let source = DeviceBuffer::from(buffer.clone());
            source.view_or_copy_to(&cpu_memory_manager(pool)?).map(drop)
        })
    }),
    ("DeviceBuffer::to_cpu", |pool| {
        with_buffer(pool, |buffer| {
            DeviceBuffer::from(buffer.clone()).to_cpu(pool).map(drop)
        })
    }),
];
