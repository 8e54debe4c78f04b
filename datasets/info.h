/* What a packed dataset holds, in numbers. */
#ifndef SU_DATASETS_INFO_H
#define SU_DATASETS_INFO_H

#include "datasets/dataset.h"

/* *report, dropped with json_decref:
 * {"schema":"suture.data.info/1","dataset","sha256","samples","bytes","streams":[...],"recipe":{...},
 *  "splits":{NAME:{"samples","groups"}},"groups","licences":{CANONICAL:n},
 *  "text":{"bytes","words":{"min","p5","p50","p95","max"}},"skipped":{"items","reasons"},"import":{...}}
 * Words are runs of what is not white space; percentiles are nearest-rank. SU_ENOMEM. */
su_status su_dataset_info(const su_dataset *ds, json_t **report, su_error *err);

#endif
