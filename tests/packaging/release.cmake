# SPDX-License-Identifier: MIT
# What a release has besides its sources: the library in one header, and the reference of the API.

find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_FOUND)
  add_custom_target(pavise_amalgamate
                    COMMAND Python3::Interpreter ${CMAKE_CURRENT_LIST_DIR}/amalgamate.py ${PROJECT_SOURCE_DIR}
                            ${PROJECT_BINARY_DIR}/pavise.hpp
                    COMMENT "The CPU library in one header: ${PROJECT_BINARY_DIR}/pavise.hpp" VERBATIM)
endif()

# Everything that users may name, with the comments that are there: members whose name says all have none, and are not
# asked for one. A comment that is wrong for what it stands on is an error.
find_package(Doxygen QUIET)
if(DOXYGEN_FOUND)
  set(DOXYGEN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/docs)
  set(DOXYGEN_USE_MDFILE_AS_MAINPAGE README.md)
  set(DOXYGEN_IMAGE_PATH ${PROJECT_SOURCE_DIR})
  set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
  set(DOXYGEN_EXTRACT_ALL YES)
  set(DOXYGEN_EXCLUDE_SYMBOLS pavise::detail pavise::detail::* pavise::*::detail pavise::*::detail::*)
  set(DOXYGEN_INCLUDE_PATH ${PAVISE_STB_INCLUDE_DIR})  # io/image.hpp includes it within a namespace
  set(DOXYGEN_HAVE_DOT NO)
  set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
  doxygen_add_docs(pavise_docs README.md include kernels/pavise_mpi kernels/pavise_nccl
                   COMMENT "The reference of the API: ${PROJECT_BINARY_DIR}/docs/html/index.html")
endif()
