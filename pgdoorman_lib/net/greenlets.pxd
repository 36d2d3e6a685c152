# C doors of net.greenlets.

cpdef int switch(object target) except -1
