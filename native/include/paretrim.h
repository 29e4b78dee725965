/* Loads and runs Paretrim's .trim files on the CPU: integer and float networks. Plain C; see examples/classify.c.
 *
 * A function reports failure by its return value; paretrim_last_error() gives the message for the calling thread. No function
 * terminates the program. */
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
  PARETRIM_CORRUPT_FILE = 1,          /* the file is missing, damaged or not a .trim file */
  PARETRIM_UNSUPPORTED_OPERATION = 2, /* the runtime does not support an operation or a setting */
  PARETRIM_DATA_UNAVAILABLE = 3,      /* invalid images or arguments */
  PARETRIM_OUT_OF_MEMORY = 4,
  PARETRIM_FAILED = 5 /* any other failure of the system */
} paretrim_status;

typedef struct paretrim_info {
  int64_t channels, height, width; /* of one image */
  int64_t classes;                 /* size of the first output for one image: the number of logits of a classifier */
  int32_t takes_pixels;            /* 1: images are uint8 pixels; 0: float32, normalised */
  int32_t threads;                 /* used by one call */
  const char* instruction_set;     /* valid as long as the network */
} paretrim_info;

PARETRIM_API const char* paretrim_version(void);

/* Error message of the calling thread's latest call; "" if it succeeded. Valid until the thread's next call. */
PARETRIM_API const char* paretrim_last_error(void);

/* Loads and checks a network and chooses its kernels by measuring them. Returns NULL on failure. `bytes` may be freed
 * afterwards. */
PARETRIM_API paretrim_network* paretrim_load_file(const char* path, int32_t threads);
PARETRIM_API paretrim_network* paretrim_load_bytes(const void* bytes, size_t size, int32_t threads);

/* The same for trusted files: allows `limit` times the memory and work that is usual for a file of this size. The functions above
 * use 1, or the value of the environment variable PARETRIM_LIMIT. */
PARETRIM_API paretrim_network* paretrim_load_file_limit(const char* path, int32_t threads, double limit);
PARETRIM_API paretrim_network* paretrim_load_bytes_limit(const void* bytes, size_t size, int32_t threads, double limit);

PARETRIM_API paretrim_status paretrim_describe(const paretrim_network* network, paretrim_info* info);

/* Name of a class, or NULL if the file does not name it. Valid as long as the network. */
PARETRIM_API const char* paretrim_class_name(const paretrim_network* network, int64_t index);

/* Number of outputs: 1 for a classifier, the logits. 0 for NULL. */
PARETRIM_API int64_t paretrim_output_count(const paretrim_network* network);

typedef struct paretrim_output {
  const char* name;     /* valid as long as the network, like the shape */
  const int64_t* shape; /* for one image */
  int64_t dimensions;   /* length of the shape */
  int64_t size;         /* elements for one image: the product of the shape */
} paretrim_output;

PARETRIM_API paretrim_status paretrim_describe_output(const paretrim_network* network, int64_t index, paretrim_output* output);

/* Runs a network with one output on contiguous images [count][channels][height][width] and writes float logits
 * [count][classes]. If the output is a feature map, `classes` counts all its elements. Thread-safe. */
PARETRIM_API paretrim_status paretrim_run(const paretrim_network* network, const void* images, int64_t count, float* logits);

/* The same for any number of outputs: `outputs` holds one pointer for each, to floats [count][size]. */
PARETRIM_API paretrim_status paretrim_run_outputs(const paretrim_network* network, const void* images, int64_t count,
                                                  float* const* outputs);

/* Frees a network; NULL is allowed. No other call on it may be running. */
PARETRIM_API void paretrim_free(paretrim_network* network);

#ifdef __cplusplus
}
#endif

#endif
