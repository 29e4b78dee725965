/* MaskRun .trim files: networks of integers or floats, planned for this CPU. Plain C; see examples/classify.c.
 *
 * A function that fails says so by its result; paretrim_last_error() has the words, by thread. Nothing here ends the program. */
#ifndef PARETRIM_H
#define PARETRIM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PARETRIM_API __attribute__((visibility("default")))
#else
#define PARETRIM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct paretrim_network paretrim_network;

typedef enum paretrim_status {
  PARETRIM_OK = 0,
  PARETRIM_CORRUPT_FILE = 1,          /* missing, damaged, or not what it claims to be */
  PARETRIM_UNSUPPORTED_OPERATION = 2, /* outside what the runtime computes, or a setting it does not have */
  PARETRIM_DATA_UNAVAILABLE = 3,      /* images or arguments other than the function takes */
  PARETRIM_OUT_OF_MEMORY = 4,
  PARETRIM_FAILED = 5 /* the system refused something else, such as a thread */
} paretrim_status;

typedef struct paretrim_info {
  int64_t channels, height, width; /* of one image */
  int64_t classes;                 /* numbers in the first output of one image: the logits of a classifier */
  int32_t takes_pixels;            /* 1: images are uint8 pixels; 0: float32, normalised */
  int32_t threads;                 /* that compute one call */
  const char* instruction_set;     /* lives as long as the network */
} paretrim_info;

PARETRIM_API const char* paretrim_version(void);

/* Words for the latest failure on this thread; "" if there was none. Valid until the next call on this thread. */
PARETRIM_API const char* paretrim_last_error(void);

/* Read a file, check it, and choose its kernels by measuring them. NULL on failure. `bytes` may be freed afterwards. */
PARETRIM_API paretrim_network* paretrim_load_file(const char* path, int32_t threads);
PARETRIM_API paretrim_network* paretrim_load_bytes(const void* bytes, size_t size, int32_t threads);

/* The same for a file that is trusted: it may take `limit` times the memory and work that are usual for its size. Above, it is 1,
 * or what the environment variable PARETRIM_LIMIT says. */
PARETRIM_API paretrim_network* paretrim_load_file_limit(const char* path, int32_t threads, double limit);
PARETRIM_API paretrim_network* paretrim_load_bytes_limit(const void* bytes, size_t size, int32_t threads, double limit);

PARETRIM_API paretrim_status paretrim_describe(const paretrim_network* network, paretrim_info* info);

/* Name of a class, or NULL where the file names none. Lives as long as the network. */
PARETRIM_API const char* paretrim_class_name(const paretrim_network* network, int64_t index);

/* How many outputs a network has: one, the logits, or several. 0 for NULL. */
PARETRIM_API int64_t paretrim_output_count(const paretrim_network* network);

typedef struct paretrim_output {
  const char* name;     /* lives as long as the network, and so does the shape */
  const int64_t* shape; /* of one image */
  int64_t dimensions;   /* of the shape */
  int64_t size;         /* numbers of one image: the product of the shape */
} paretrim_output;

PARETRIM_API paretrim_status paretrim_describe_output(const paretrim_network* network, int64_t index, paretrim_output* output);

/* Logits float [count][classes] of images [count][channels][height][width] that lie one behind the other; of a network whose one
 * output is a map, all its numbers. May be called from many threads at once. */
PARETRIM_API paretrim_status paretrim_run(const paretrim_network* network, const void* images, int64_t count, float* logits);

/* The same for a network of any number of outputs: `outputs` has a pointer for each, to floats [count][size]. */
PARETRIM_API paretrim_status paretrim_run_outputs(const paretrim_network* network, const void* images, int64_t count,
                                                  float* const* outputs);

/* NULL is allowed. No call may be running on the network. */
PARETRIM_API void paretrim_free(paretrim_network* network);

#ifdef __cplusplus
}
#endif

#endif
