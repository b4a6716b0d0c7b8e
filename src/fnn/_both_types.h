/* Part of _simd.h, which it includes once for double and once for float: double first, for float's losses are summed in
   double.  FNN_KIND stands between a kernel's name and its type. */

#undef FNN_NAME
#undef FNN_NAME_OF
#define FNN_NAME_OF(name, kind, type) name##kind##type
#define FNN_NAME(name, kind, type) FNN_NAME_OF(name, kind, type)

#define REAL double
#define REAL_SIZE 8
#define INTEGER int64_t
#define NATURAL uint64_t
#define FN(name) FNN_NAME(name, FNN_KIND, f64)
#include "_simd.h"
#undef REAL
#undef REAL_SIZE
#undef INTEGER
#undef NATURAL
#undef FN

#define REAL float
#define REAL_SIZE 4
#define INTEGER int32_t
#define NATURAL uint32_t
#define FN(name) FNN_NAME(name, FNN_KIND, f32)
#include "_simd.h"
#undef REAL
#undef REAL_SIZE
#undef INTEGER
#undef NATURAL
#undef FN
