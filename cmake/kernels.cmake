# Kernels: one file per instruction set, compiled with that set's own flags and called only after model/encoder/cpu
# (of base/kernels: base/sha256) has seen the feature bits. The rest of the tree stays at the architecture's baseline.
set(kernel_flags_generic -O3)
set(kernel_flags_avx2 -O3 -mavx2 -mfma -mf16c)
set(kernel_flags_avx512 -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512)
set(kernel_flags_avx512bf16 ${kernel_flags_avx512} -mavx512bf16)
set(kernel_flags_avxvnni -O3 -mavx2 -mfma -mavxvnni)
set(kernel_flags_avx512vnni ${kernel_flags_avx512} -mavx512vnni)
set(kernel_flags_amx ${kernel_flags_avx512bf16} -mavx512vnni -mamx-tile -mamx-bf16 -mamx-int8)

set(kernel_flags_neon -O3)
set(kernel_flags_neondot -O3 -march=armv8.2-a+dotprod)
set(kernel_flags_neonbf16 -O3 -march=armv8.2-a+dotprod+bf16+i8mm)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(kernel_sets "generic|avx.*|amx")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(kernel_sets "generic|neon.*")
else()
  set(kernel_sets "generic")
endif()

# Adds FOLDER/*.c to orthrus_LIBRARY, each with its set's flags and whatever else is given.
# A kernel file is named kernel_<set>_….c or kernel_<set>.c.
function(orthrus_kernels library folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.c)
  target_sources(orthrus_${library} PRIVATE ${sources})
  foreach(source ${sources})
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "^[a-z]+_([a-z0-9]+)(_.*)?$" "\\1" isa ${stem})
    if(NOT DEFINED kernel_flags_${isa})
      message(FATAL_ERROR "${source}: no compiler flags known for instruction set '${isa}'")
    endif()
    if(isa MATCHES "^(${kernel_sets})$")
      set_source_files_properties(${source} TARGET_DIRECTORY orthrus_${library}
        PROPERTIES COMPILE_OPTIONS "${kernel_flags_${isa}};${ARGN}")
    endif()
  endforeach()
endfunction()

orthrus_kernels(base base/kernels)
orthrus_kernels(model model/encoder/kernels)
# Gradients may be contracted and comparisons assumed quiet: that is what makes them vectors.
orthrus_kernels(train train/network/kernels -ffp-contract=fast -fno-trapping-math)
