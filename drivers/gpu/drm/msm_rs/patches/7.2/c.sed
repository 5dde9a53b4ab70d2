# What 7.2's C hasn't got and ours uses.
s/\bvma_get_page_prot(vma)/vm_get_page_prot(vma->vm_flags)/g
s/\bvma_is_cow_mapping(vma)/is_cow_mapping(vma->vm_flags)/g
